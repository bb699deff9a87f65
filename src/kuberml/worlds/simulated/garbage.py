"""Collecting garbage rarely: a world is many thousand objects that live to its end, and each look goes through them all."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

THRESHOLDS = (50_000, 20, 20)
"""Python's own are (700, 10, 10): with 1,000 nodes a tenth of the time went into looking."""


@contextlib.contextmanager
def rarely_collected() -> Iterator[None]:
    """Leave out what is there already, and look for rings among the rest less often; afterwards as before."""
    before, is_ours = gc.get_threshold(), gc.get_freeze_count() == 0
    gc.set_threshold(*THRESHOLDS)
    if is_ours:
        gc.freeze()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        if is_ours:
            gc.unfreeze()
