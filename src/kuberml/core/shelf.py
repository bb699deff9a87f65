"""Bytes by name, more than memory holds: what does not fit lies in a temporary file without a name, gone with the process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

MEMORY_BYTES = 64 * 1024 * 1024


def read_at(descriptor: int, start: int, stop: int) -> bytes:
    """Bytes start..stop of an open file, fewer where it ends before. One call to the system gives 2 GiB at most."""
    found = [os.pread(descriptor, stop - start, start)]
    while found[-1] and (got := sum(map(len, found))) < stop - start:
        found.append(os.pread(descriptor, stop - start - got, start + got))
    return found[0] if len(found) == 1 else b"".join(found)


class Shelf:
    """See the module. What came first stays in memory; a place in the file is used again for content of the same size.

    The file lies where `tempfile` says (`TMPDIR`): where that is itself memory, nothing is gained.
    """

    def __init__(self, *, memory_bytes: int = MEMORY_BYTES) -> None:
        """`memory_bytes`: what may stay in memory. Nothing is written before that is full."""
        self._room_bytes = memory_bytes
        self._here: dict[str, bytes] = {}
        self._there: dict[str, tuple[int, int]] = {}  # (start, size_bytes) in the file
        self._free: dict[int, list[int]] = {}  # starts of places that nobody needs, by size
        self._file: BinaryIO | None = None
        self._end_bytes = 0

    def __len__(self) -> int:
        return len(self._here) + len(self._there)

    def __iter__(self) -> Iterator[str]:
        yield from self._here
        yield from self._there

    def __contains__(self, name: object) -> bool:
        return name in self._here or name in self._there

    def __setitem__(self, name: str, content: bytes) -> None:
        """Keep content under a name, in place of what was there.

        Raises:
            MemoryError: there is no room in the file either. Not OSError: a simulated disk is full when it is told to be.
        """
        if name in self:
            del self[name]
        if len(content) <= self._room_bytes:
            self._room_bytes -= len(content)
            self._here[name] = bytes(content)
        else:
            self._there[name] = self._write(content), len(content)

    def __getitem__(self, name: str) -> bytes:
        """Raises KeyError: there is nothing under that name."""
        return self._here[name] if name in self._here else self.read(name, 0, self.size_bytes(name))

    def __delitem__(self, name: str) -> None:
        if name in self._here:
            self._room_bytes += len(self._here.pop(name))
        else:
            start, size_bytes = self._there.pop(name)
            self._free.setdefault(size_bytes, []).append(start)

    def size_bytes(self, name: str) -> int:
        """How long the content is. Raises KeyError: there is none."""
        return len(self._here[name]) if name in self._here else self._there[name][1]

    def read(self, name: str, start: int, stop: int) -> bytes:
        """Bytes start..stop of what lies under a name."""
        if name in self._here:
            return self._here[name][start:stop]
        assert self._file is not None
        at = self._there[name][0]
        return read_at(self._file.fileno(), at + start, at + stop)

    def _write(self, content: bytes) -> int:
        free = self._free.get(len(content))
        start = free.pop() if free else self._end_bytes
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it closes with this object
            written = 0
            while written < len(content):
                written += os.pwrite(self._file.fileno(), memoryview(content)[written:], start + written)
        except OSError as error:
            where = tempfile.gettempdir()
            raise MemoryError(
                f"no room for {len(content)} bytes in {where} ({error}): let TMPDIR name a larger disk"
            ) from error
        self._end_bytes = max(self._end_bytes, start + len(content))
        return start

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()
