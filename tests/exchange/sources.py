"""A seam's Transport whose sources hang, lie, are slow or go away as a test wants, and a blob to read from them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.core.ids import Digest, NodeId, digest_of
from kuberml.core.rng import rng
from kuberml.core.seam import Handler, Reading
from kuberml.knowledge.card import Card
from kuberml.knowledge.pieces import refer
from kuberml.worlds.simulated.loop import VirtualLoop

T = TypeVar("T")
MIB = 1 << 20
LIVE = Reading(window_bytes=8 * MIB, parallel=4, timeout_s=10.0, patience_s=20.0)


def card_of(*blobs: bytes, **fields: Any) -> Card:
    """A card over blobs, cut by size."""
    known = {"kind": "weights", "task": "t", "labels": {}, "basis": None, "author": "0" * 64, "slot": "s", "version": 1,
             "blobs": tuple(map(refer, blobs)), "learned_at_ms": 1}  # fmt: skip
    return Card(**{**known, **fields})


def noise(size_bytes: int, name: str = "blob") -> bytes:
    """Bytes that no other name gives."""
    return rng(0, "sources", name).bytes(size_bytes)


@dataclass
class Way:
    """How one source behaves. Times are virtual seconds, `read` counts its reads from 0."""

    bytes_s: float = 100e6
    latency_s: float = 0.001
    hangs_from: int | None = None  # from this read on it says nothing
    lies_from: int | None = None  # from this read on it flips a byte of every piece
    short_from: int | None = None
    gone_from: int | None = None  # cut off, from this read on
    gone_reads: int = 1 << 30  # so many reads are cut off, then it is back
    blobs: dict[Digest, bytes] | None = None  # instead of everybody's
    reads: list[tuple[int, int]] = field(default_factory=list)
    cancelled: int = 0

    async def read(self, blob: bytes, start: int, stop: int, timeout_s: float) -> bytes:
        """One read."""
        number = len(self.reads)
        self.reads.append((start, stop))
        try:
            await asyncio.sleep(self.latency_s)
            if self.hangs_from is not None and number >= self.hangs_from:
                await asyncio.sleep(timeout_s)
                raise Unreachable("silent")
            if self.gone_from is not None and self.gone_from <= number < self.gone_from + self.gone_reads:
                raise Unreachable("cut off")
            await asyncio.sleep((stop - start) / self.bytes_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        content = blob[start:stop]
        if self.lies_from is not None and number >= self.lies_from:
            content = bytes(byte ^ 0xFF for byte in content[:1]) + content[1:] if len(content) < 100 else _spoiled(content)
        if self.short_from is not None and number >= self.short_from:
            content = content[:-1]
        return content


class Ways:
    """`core.seam.Transport` that can only read."""

    def __init__(self, *blobs: bytes, reading: Reading = LIVE, **ways: Way) -> None:
        self.blobs = {digest_of(blob): blob for blob in blobs}
        self.ways = {NodeId(name): way for name, way in ways.items()}
        self.reading, self.node = reading, NodeId("me")
        self.under_way = self.most_under_way = 0

    async def read(self, holder: NodeId, digest: Digest, start: int, stop: int, *, timeout_s: float) -> bytes:
        way = self.ways.get(holder)
        if way is None:
            raise Unreachable("nobody there")
        blob = (self.blobs if way.blobs is None else way.blobs).get(digest)
        if blob is None:
            raise RemoteError("404")
        self.under_way += stop - start
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            return await way.read(blob, start, stop, timeout_s)
        finally:
            self.under_way -= stop - start

    async def ask(self, to: NodeId, name: str, body: bytes, *, timeout_s: float) -> bytes:
        raise Unreachable("this transport only reads")

    def serve(self, name: str, handler: Handler) -> None:
        raise NotImplementedError

    async def announce(self, topic: str, body: bytes) -> None:
        raise NotImplementedError

    def subscribe(self, topic: str, *, limit: int = 1024) -> AsyncIterator[tuple[NodeId, bytes]]:
        raise NotImplementedError

    def alive(self, role: str | None = None) -> tuple[NodeId, ...]:
        return tuple(sorted(self.ways))


def in_virtual_time(main: Coroutine[Any, Any, T]) -> tuple[T, float]:
    """The result of a coroutine, and the virtual seconds that it took."""
    loop = VirtualLoop()
    try:
        return loop.run(main), loop.time()
    finally:
        loop.close()


def _spoiled(content: bytes) -> bytes:
    """One wrong byte in every 4 KiB: no piece of it is right."""
    wrong = bytearray(content)
    wrong[::4096] = bytes(byte ^ 0xFF for byte in wrong[::4096])
    return bytes(wrong)
