"""A `core.seam.Part` in a file: verified bytes at their places, holes between them, and no journal.

What is there after a kill or a power cut is found out by hashing it: holes and torn writes have other hashes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import TypeVar

from blake3 import blake3

from kuberml.core.errors import RemoteError
from kuberml.core.ids import Digest, digest_of
from kuberml.core.shelf import read_at
from kuberml.vault.growing_hash import GrowingHash
from kuberml.vault.memory_part import nonsense

T = TypeVar("T")
FLUSH_BYTES = 16 << 20
"""Written to the file at most before the disk begins with it: at the end there is little left to wait for."""
CACHED_BYTES = 256 << 20
"""Larger blobs do not stay in the system's page cache: pages that the disk has serve for what comes next. Fresh ones push out
what others need, and in a virtual machine one may cost ten times as much as to write into it."""
BEHIND = 2
"""Flushes until the disk is likely to have it."""


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
        self._state = threading.Condition()
        self._users = 0  # threads that are reading or writing just now
        self._unflushed: list[tuple[int, int]] = []
        self._flushed: list[list[tuple[int, int]]] = []
        self._again = memoryview(b"")
        self._hash = GrowingHash(self._read_again)
        self.is_new = os.fstat(descriptor).st_size == 0
        os.ftruncate(descriptor, size_bytes)

    def write(self, start: int, content: bytes | memoryview) -> None:
        """See the seam."""
        with self._using(start, start + len(content)) as descriptor:
            rest, at = memoryview(content), start
            while rest:
                count = os.pwrite(descriptor, rest, at)
                rest, at = rest[count:], at + count
            self._flush(descriptor, start, at)
            self._hash.add(start, content)

    def has(self, start: int, stop: int, blake3: bytes) -> bool:
        """See the seam."""
        with self._using(start, stop) as descriptor:
            if _is_hole(descriptor, start, stop):
                return False
            content = read_at(descriptor, start, stop)
            if _digest(content) != blake3:
                return False
            self._hash.add(start, content)
            return True

    def read(self, start: int, stop: int) -> bytes:
        """See the seam."""
        with self._using(start, stop) as descriptor:
            return read_at(descriptor, start, stop)

    def whole(self) -> bytes:
        """See the seam. What lies in the file is read and hashed, not what was written into it."""
        content = self.read(0, self.size_bytes)
        if digest_of(content) != self.digest:
            self.discard()
            raise RemoteError(nonsense(self.digest))
        return content

    def finish(self) -> None:
        """See the seam."""
        try:
            with self._using(0, 0) as descriptor:
                is_right = self._hash.hexdigest(self.size_bytes) == self.digest
                if is_right:
                    os.fsync(descriptor)
                    self._keep(self.path)
            if not is_right:
                self.discard()
                raise RemoteError(nonsense(self.digest))
        finally:
            self.close()

    def close(self) -> None:
        """See the seam. Waits for threads that are writing."""
        with self._state:
            self._state.wait_for(lambda: not self._users)
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
                self._let_go(self.path)

    def discard(self) -> None:
        """See the seam."""
        with self._state:
            if self._descriptor is not None:
                self.path.unlink(missing_ok=True)
                self.close()

    async def beside(self, work: Callable[[], T]) -> T:
        """See the seam: in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads(), work)

    @contextlib.contextmanager
    def _using(self, start: int, stop: int) -> Iterator[int]:
        """The descriptor, which stays open inside this block."""
        with self._state:
            if self._descriptor is None:
                raise ValueError(f"blob {self.digest[:12]} is not open")
            if not 0 <= start <= stop <= self.size_bytes:
                raise ValueError(f"bytes {start}..{stop} are outside a blob of {self.size_bytes} bytes")
            self._users += 1
            descriptor = self._descriptor
        try:
            yield descriptor
        finally:
            with self._state:
                self._users -= 1
                self._state.notify_all()

    def _flush(self, descriptor: int, start: int, stop: int) -> None:
        """Have the disk begin with what was written, now and then, without waiting for it."""
        with self._state:
            self._unflushed.append((start, stop))
            if sum(end - begin for begin, end in self._unflushed) < FLUSH_BYTES:
                return
            some, self._unflushed = self._unflushed, []
            if self.size_bytes > CACHED_BYTES:
                some = some + self._ripe(some)
        if hasattr(os, "posix_fadvise"):
            for one in some:  # the first time the disk begins with it (what it does not have stays), the second time it goes
                os.posix_fadvise(descriptor, one[0], one[1] - one[0], os.POSIX_FADV_DONTNEED)

    def _ripe(self, flushed: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """What was flushed some time ago, and is hashed."""
        self._flushed.append(flushed)
        old = [one for flush in self._flushed[:-BEHIND] for one in flush]
        hashed_bytes = self._hash.done_bytes
        self._flushed = [[one for one in old if one[1] > hashed_bytes], *self._flushed[-BEHIND:]]
        return [one for one in old if one[1] <= hashed_bytes]

    def _read_again(self, start: int, stop: int) -> memoryview:
        """For the hash, in one thread at a time: into the same memory, because fresh memory costs more than to read into it."""
        if len(self._again) < stop - start:
            self._again = memoryview(bytearray(stop - start))
        with self._using(start, stop) as descriptor:
            return self._again[: os.preadv(descriptor, [self._again[: stop - start]], start)]


def _digest(content: bytes) -> bytes:
    return blake3(content).digest()


def _is_hole(descriptor: int, start: int, stop: int) -> bool:
    """Whether nothing was ever written from start to stop, where the file system knows it."""
    try:
        return os.lseek(descriptor, start, os.SEEK_DATA) >= stop
    except OSError as error:
        return error.errno == errno.ENXIO  # nothing up to the end; else it cannot tell, and the hash tells
