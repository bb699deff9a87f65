"""Turns: few threads at once take bytes in and hash them, however many reads are under way.

Threads that all want the interpreter wake each other up every few milliseconds to ask for it: sixty-four reads at once spent
more on that than on their bytes. A thread that waits for its turn sleeps. Who waits for its peer lets the next one go on.
"""

from __future__ import annotations

import collections
import contextlib
import threading
from collections.abc import Iterator


class Turns:
    """First come, first served."""

    def __init__(self, most: int) -> None:
        """`most`: how many may have their turn at once."""
        self._free = most
        self._lock = threading.Lock()
        self._waiting: collections.deque[threading.Lock] = collections.deque()

    @property
    def are_wanted(self) -> bool:
        """Somebody waits for a turn."""
        return bool(self._waiting)

    def take(self) -> None:
        """Wait for a turn."""
        with self._lock:
            if self._free:
                self._free -= 1
                return
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        mine.acquire()  # whoever gives its turn up opens it

    def give(self) -> None:
        """Let the next one go on."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1

    def __enter__(self) -> None:
        self.take()

    def __exit__(self, *error: object) -> None:
        self.give()

    @contextlib.contextmanager
    def given_up(self) -> Iterator[None]:
        """Inside this block others may go on."""
        self.give()
        try:
            yield
        finally:
            self.take()
