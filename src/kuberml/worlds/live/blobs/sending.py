"""Bytes of a stored blob into a connection: by the kernel where it can, in pieces where not.

What the kernel copies is a thread's work, so that requests do not wait for it in the event loop; beyond so many answers at
once (slow peers, mostly) the loop does it, slice by slice.
"""

from __future__ import annotations

import asyncio
import os
from types import TracebackType
from typing import Protocol

from aiohttp import web

from kuberml.core.ids import Digest
from kuberml.core.seam import Store
from kuberml.vault.folder import FolderStore
from kuberml.worlds.live.blobs.bucket import Bucket
from kuberml.worlds.live.blobs.pushing import SLICE_BYTES, THREADS, Pushing, unsent_bytes

PIECE_BYTES = 1 << 18
"""Written at once where the bytes pass through Python."""


class Source(Protocol):
    """A blob that is open for reading."""

    @property
    def size_bytes(self) -> int:
        """Of the whole blob."""
        ...

    @property
    def descriptor(self) -> int | None:
        """Its file's, if it is one."""
        ...

    def read(self, start: int, stop: int) -> bytes:
        """These bytes."""
        ...

    def __enter__(self) -> Source:
        """Entered once."""
        ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Closes it."""
        ...


class _File:
    def __init__(self, store: FolderStore, digest: Digest) -> None:
        self.descriptor: int | None = store.descriptor(digest)
        self.size_bytes = os.fstat(self.descriptor).st_size
        if hasattr(os, "posix_fadvise"):  # the kernel reads further ahead: our loop does not wait for the disk
            os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    def read(self, start: int, stop: int) -> bytes:
        assert self.descriptor is not None
        return os.pread(self.descriptor, stop - start, start)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self.descriptor is not None
        os.close(self.descriptor)


class _Stored:
    descriptor = None

    def __init__(self, store: Store, digest: Digest) -> None:
        size_bytes = store.size_bytes(digest)
        if size_bytes is None:
            raise KeyError(digest)
        self._store, self._digest, self.size_bytes = store, digest, size_bytes

    def read(self, start: int, stop: int) -> bytes:
        return self._store.read(self._digest, start, stop)

    def __enter__(self) -> _Stored:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass


def opened(store: Store, digest: Digest) -> Source:
    """A blob of any store, until its block ends. Raises KeyError: not here."""
    return _File(store, digest) if isinstance(store, FolderStore) else _Stored(store, digest)


async def send(
    transport: asyncio.Transport,
    response: web.StreamResponse,
    source: Source,
    start: int,
    stop: int,
    bucket: Bucket,
    stall_s: float,
) -> int:
    """Send bytes start..stop of a source as the body of a response whose head has been written.

    Returns:
        Bytes sent.

    Raises:
        TimeoutError: the peer took nothing for stall_s.
        OSError: it has left, or the disk broke.
    """
    plain = transport.get_extra_info("socket")
    if plain is None:
        raise ConnectionResetError("the peer has left")
    out = os.dup(plain.fileno())  # the loop guards the number that the transport uses
    try:
        if source.descriptor is not None and hasattr(os, "sendfile") and transport.get_extra_info("sslcontext") is None:
            while transport.get_write_buffer_size():  # the head, first
                await _writable(out, stall_s)
            if stop - start > SLICE_BYTES and THREADS.acquire(blocking=False):
                await Pushing(out, source.descriptor, start, stop, bucket, stall_s).ended()
            else:
                await _by_the_kernel(out, source.descriptor, start, stop, bucket, stall_s)
        else:
            await _through_python(response, out, source, start, stop, bucket, stall_s)
    finally:
        os.close(out)
    return stop - start


async def _through_python(
    response: web.StreamResponse,
    out: int,
    source: Source,
    start: int,
    stop: int,
    bucket: Bucket,
    stall_s: float,
) -> None:
    while start < stop:
        piece = source.read(start, min(stop, start + bucket.slice_bytes(PIECE_BYTES)))
        if not piece:
            raise OSError(f"the blob ended at byte {start}, before {stop}")
        await asyncio.sleep(bucket.take(len(piece)))
        writing = asyncio.ensure_future(response.write(piece))
        try:
            await _unless_stalled(writing, out, stall_s)
        finally:
            writing.cancel()
        start += len(piece)


async def _by_the_kernel(out: int, descriptor: int, start: int, stop: int, bucket: Bucket, stall_s: float) -> None:
    """As `loop.sendfile`, but every wait for the peer is limited by itself, and the loop gets its turn after every slice."""
    while start < stop:
        size_bytes = min(stop - start, bucket.slice_bytes(SLICE_BYTES))
        try:
            sent_bytes = os.sendfile(out, descriptor, start, size_bytes)
        except BlockingIOError:
            await _writable(out, stall_s)
            continue
        if not sent_bytes:
            raise OSError(f"the blob ended at byte {start}, before {stop}")
        start += sent_bytes
        await asyncio.sleep(bucket.take(sent_bytes))


async def _writable(descriptor: int, stall_s: float) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(descriptor, _set, ready)
    try:
        await _unless_stalled(ready, descriptor, stall_s)
    finally:
        loop.remove_writer(descriptor)


async def _unless_stalled(waiting: asyncio.Future[None], descriptor: int, stall_s: float) -> None:
    """Wait, unless the peer takes nothing for stall_s.

    A socket counts as writable only when a good part of its buffer, which may be megabytes, is free: slow peers take longer.
    """
    left_bytes = unsent_bytes(descriptor)
    while not (await asyncio.wait([waiting], timeout=stall_s))[0]:
        before_bytes, left_bytes = left_bytes, unsent_bytes(descriptor)
        if left_bytes is None or left_bytes == before_bytes:
            waiting.cancel()
            raise TimeoutError
    waiting.result()


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
