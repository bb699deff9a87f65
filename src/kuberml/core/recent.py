"""What was computed last, up to a number of bytes: the same question is answered from memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """Values by key, the least recently used dropped first. Safe to use from several threads.

    Values are shared: make them such that nobody can change them.
    """

    def __init__(self, limit_bytes: int, size_bytes: Callable[[T], int]) -> None:
        """Keep values of together `limit_bytes`; `size_bytes` says what one of them takes."""
        self._limit, self._size, self._used = limit_bytes, size_bytes, 0
        self._kept: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key, made if it is not there. Two threads may both make it; what `make` raises is raised."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            if key not in self._kept and self._size(made) <= self._limit:
                self._kept[key] = made
                self._used += self._size(made)
            while self._used > self._limit:
                self._used -= self._size(self._kept.popitem(last=False)[1])
        return made
