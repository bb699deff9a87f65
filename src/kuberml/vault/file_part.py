"""A `core.seam.Part` in a file: verified bytes at their places, holes between them, and no journal.

What is there after a kill or a power cut is found out by hashing it: holes and torn writes have other hashes.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import TypeVar

from blake3 import blake3

from kuberml.core.errors import RemoteError
from kuberml.core.ids import Digest
from kuberml.vault.memory_part import nonsense

T = TypeVar("T")
CHUNK_BYTES = 1 << 20


class FilePart:
    """See the seam. The whole is hashed while it grows, as far as it has no gap."""

    def __init__(
        self,
        path: Path,
        descriptor: int,
        digest: Digest,
        size_bytes: int,
        *,
        keep: Callable[[Path], None],
        let_go: Callable[[Path], None],
        threads: Callable[[], Executor],
    ) -> None:
        """A file that is this process's own.

        Args:
            path: of the file.
            descriptor: open for reading and writing; closed here.
            digest: what the whole must be.
            size_bytes: of the whole.
            keep: moves the file, complete and on the disk, to the blobs.
            let_go: is told that the file is open no more.
            threads: where `beside` works.
        """
        self.path, self.digest, self.size_bytes = path, digest, size_bytes
        self._descriptor: int | None = descriptor
        self._keep, self._let_go, self._threads = keep, let_go, threads
        self._lock = threading.RLock()
        self._hasher, self._hashed = blake3(), 0
        self._later: dict[int, int] = {}  # ranges behind the gap at `_hashed`: start -> stop
        self.is_new = os.fstat(descriptor).st_size == 0
        os.ftruncate(descriptor, size_bytes)

    def write(self, start: int, content: bytes | memoryview) -> None:
        """See the seam."""
        with self._lock:
            descriptor = self._open(start, start + len(content))
            rest, at = memoryview(content), start
            while rest:
                count = os.pwrite(descriptor, rest, at)
                rest, at = rest[count:], at + count
            self._hash(descriptor, start, content)

    def has(self, start: int, stop: int, blake3: bytes) -> bool:
        """See the seam."""
        with self._lock:
            descriptor = self._open(start, stop)
            if _is_hole(descriptor, start, stop):
                return False
            content = os.pread(descriptor, stop - start, start)
            if _digest(content) != blake3:
                return False
            self._hash(descriptor, start, content)
            return True

    def read(self, start: int, stop: int) -> bytes:
        """See the seam."""
        with self._lock:
            return os.pread(self._open(start, stop), stop - start, start)

    def finish(self) -> None:
        """See the seam."""
        with self._lock:
            descriptor = self._open(0, 0)
            self._read_on(descriptor, self.size_bytes)
            if self._hasher.hexdigest() != self.digest:
                self.discard()
                raise RemoteError(nonsense(self.digest))
            try:
                os.fsync(descriptor)
                self._keep(self.path)
            finally:
                self.close()

    def close(self) -> None:
        """See the seam."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
                self._let_go(self.path)

    def discard(self) -> None:
        """See the seam."""
        with self._lock:
            if self._descriptor is not None:
                self.path.unlink(missing_ok=True)
                self.close()

    async def beside(self, work: Callable[[], T]) -> T:
        """See the seam: in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads(), work)

    def _open(self, start: int, stop: int) -> int:
        if self._descriptor is None:
            raise ValueError(f"blob {self.digest[:12]} is not open")
        if not 0 <= start <= stop <= self.size_bytes:
            raise ValueError(f"bytes {start}..{stop} are outside a blob of {self.size_bytes} bytes")
        return self._descriptor

    def _hash(self, descriptor: int, start: int, content: bytes | memoryview) -> None:
        """Take verified bytes into the hash of the whole: at once where they follow, else when the gap is closed."""
        stop = start + len(content)
        if start < self._hashed:  # written a second time: what was hashed may be gone
            self._hasher, self._hashed = blake3(), 0
            self._later.clear()
        elif start > self._hashed:
            self._later[start] = stop
        else:
            self._hasher.update(content)
            self._hashed = stop
            while self._hashed in self._later:
                self._read_on(descriptor, self._later.pop(self._hashed))

    def _read_on(self, descriptor: int, stop: int) -> None:
        while self._hashed < stop:
            content = os.pread(descriptor, min(CHUNK_BYTES, stop - self._hashed), self._hashed)
            if not content:
                raise OSError(f"{self.path} ends at {self._hashed} bytes, not at {self.size_bytes}")
            self._hasher.update(content)
            self._hashed += len(content)


def _digest(content: bytes) -> bytes:
    return blake3(content).digest()


def _is_hole(descriptor: int, start: int, stop: int) -> bool:
    """Whether nothing was ever written from start to stop, where the file system knows it."""
    try:
        return os.lseek(descriptor, start, os.SEEK_DATA) >= stop
    except OSError as error:
        return error.errno == errno.ENXIO  # nothing up to the end; else it cannot tell, and the hash tells
