"""Memory that passes bytes on is kept for the next ones: to give it back to the system and get it anew costs more than to copy.

Zenoh takes memory for every message. The C library gives back what is free at the end of its heap beyond 128 KiB, and pages
that come anew are cleared one by one: a quarter of what a blob cost that went through a router.
"""

from __future__ import annotations

import contextlib
import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of `mallopt` in glibc's malloc.h."""
KEPT_BYTES = 32 << 20
"""Free at the end of a heap at most, and the largest that is taken from it: what glibc itself comes to, step by step, in a
process that frees something so large."""


def keep_memory() -> None:
    """For this process, from now on; does nothing where the C library is another."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # no such function, or no C library to ask
        library = ctypes.CDLL(None)
        library.mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
        library.mallopt(_MMAP_THRESHOLD, KEPT_BYTES)
