"""The BLAKE3 of a whole whose parts come in any order from several threads: hashed as far as there is no gap, as they come."""

from __future__ import annotations

import threading
from collections.abc import Callable

from blake3 import blake3

CHUNK_BYTES = 1 << 20


class GrowingHash:
    """One thread at a time hashes on, in whose hands the next part is; the others go on receiving."""

    def __init__(self, read: Callable[[int, int], bytes | memoryview]) -> None:
        """`read`: bytes start..stop of what is there, or fewer at the end of it; used before it is called again."""
        self._read = read
        self._changed = threading.Condition()  # of a lock that may be taken twice
        self._hasher, self._hashed = blake3(), 0
        self._claimed = 0  # as `_hashed`, or to where a thread is just hashing
        self._later: dict[int, int] = {}  # ranges that are there, behind `_claimed`: start -> stop
        self._is_busy = self._is_spoiled = False

    def add(self, start: int, content: bytes | memoryview) -> None:
        """These bytes are there now."""
        with self._changed:
            if start < self._claimed:  # written a second time: what was hashed may be gone
                self._is_spoiled = True
                return
            self._later[start] = start + len(content)
            if self._is_busy:
                return
            self._is_busy = True
        try:
            self._advance(start, content)
        except BaseException:
            self._rest(spoiled=True)
            raise

    @property
    def done_bytes(self) -> int:
        """Hashed from the beginning on: they are not read again, unless they are written again."""
        return self._hashed

    def hexdigest(self, size_bytes: int) -> str:
        """Of bytes 0..size_bytes; what was not hashed yet is read. Raises OSError."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_busy)
            if self._is_spoiled:
                self._hasher, self._hashed, self._is_spoiled = blake3(), 0, False
            self._read_on(size_bytes)
            self._claimed = self._hashed
            return self._hasher.hexdigest()

    def _advance(self, start: int, content: bytes | memoryview) -> None:
        while True:
            with self._changed:
                stop = self._later.pop(self._hashed, None)
                if stop is None or self._is_spoiled:
                    return self._rest()  # with the lock held: whoever adds the next part goes on
                self._claimed = stop
            if self._hashed == start:
                self._hasher.update(content)
                self._hashed = stop
            else:
                self._read_on(stop)

    def _rest(self, *, spoiled: bool = False) -> None:
        with self._changed:
            self._is_busy, self._is_spoiled = False, self._is_spoiled or spoiled
            self._changed.notify_all()

    def _read_on(self, stop: int) -> None:
        while self._hashed < stop:
            content = self._read(self._hashed, min(stop, self._hashed + CHUNK_BYTES))
            if not content:
                raise OSError(f"it ends at {self._hashed} bytes, not at {stop}")
            self._hasher.update(content)
            self._hashed += len(content)
