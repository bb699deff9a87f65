"""Linear algebra in one thread: the last bits of a float result depend on how many share the work.

OMP_NUM_THREADS and its like act only before numpy is loaded, which a library cannot rely on; hence threadpoolctl.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np  # noqa: F401 - its BLAS must be loaded before the controller looks for it
from threadpoolctl import ThreadpoolController


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it, numpy's BLAS uses one thread."""
    with _controller().limit(limits=1, user_api="blas"):
        yield


@functools.cache
def _controller() -> ThreadpoolController:
    # Finding the loaded libraries takes milliseconds; numpy's does not change while the process lives.
    return ThreadpoolController()
