"""The seam's Transport and Compute of a live node, counted: bytes as they were sent, operations as jobs state them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

from kuberml.core.ids import Digest, NodeId
from kuberml.core.jobs import JobFunction, check_job
from kuberml.core.seam import Compute, Handler, Reading, Transport
from kuberml.worlds.simulated.links import Traffic

REQUEST_BYTES, ANSWER_BYTES, NEWS_BYTES = 295, 270, 260
"""Of an envelope around a body, key expression included: what `envelope` makes of an empty one, within a tenth."""


class CountedTransport:
    """A Transport that counts what passes through it. Blobs that others read here are counted where they arrive."""

    def __init__(self, transport: Transport) -> None:
        self._inner = transport
        self.traffic = Traffic()
        self.caused_bytes = 0
        """Requests with their answers, announcements, and blobs read here: summed over nodes, each byte once."""

    @property
    def node(self) -> NodeId:
        """See the seam."""
        return self._inner.node

    @property
    def reading(self) -> Reading:
        """See the seam."""
        return self._inner.reading

    async def ask(self, to: NodeId, name: str, body: bytes, *, timeout_s: float) -> bytes:
        """See the seam."""
        self._sent(REQUEST_BYTES + len(body))
        self.caused_bytes += REQUEST_BYTES + len(body)
        answer = await self._inner.ask(to, name, body, timeout_s=timeout_s)
        self._received(ANSWER_BYTES + len(answer))
        self.caused_bytes += ANSWER_BYTES + len(answer)
        return answer

    def serve(self, name: str, handler: Handler) -> None:
        """See the seam."""

        async def counted(asker: NodeId, body: bytes) -> bytes:
            self._received(REQUEST_BYTES + len(body))
            answer = await handler(asker, body)
            self._sent(ANSWER_BYTES + len(answer))
            return answer

        self._inner.serve(name, counted)

    async def announce(self, topic: str, body: bytes) -> None:
        """See the seam."""
        self._sent(NEWS_BYTES + len(body))
        self.caused_bytes += NEWS_BYTES + len(body)
        await self._inner.announce(topic, body)

    def subscribe(self, topic: str, *, limit: int = 1024) -> AsyncIterator[tuple[NodeId, bytes]]:
        """See the seam."""
        return self._heard(self._inner.subscribe(topic, limit=limit))

    async def _heard(self, news: AsyncIterator[tuple[NodeId, bytes]]) -> AsyncIterator[tuple[NodeId, bytes]]:
        async with aclosing(cast(Any, news)) as heard:
            async for sender, body in heard:
                self._received(NEWS_BYTES + len(body))
                yield sender, body

    def alive(self, role: str | None = None) -> tuple[NodeId, ...]:
        """See the seam."""
        return self._inner.alive(role)

    async def read(self, holder: NodeId, digest: Digest, start: int, stop: int, *, timeout_s: float) -> bytes:
        """See the seam."""
        data = await self._inner.read(holder, digest, start, stop, timeout_s=timeout_s)
        self.traffic.received_blob += len(data)
        self.caused_bytes += len(data)
        return data

    def _sent(self, size_bytes: int) -> None:
        self.traffic.sent_control += size_bytes

    def _received(self, size_bytes: int) -> None:
        self.traffic.received_control += size_bytes


class CountedCompute:
    """A Compute that adds up what its jobs say they cost."""

    def __init__(self, compute: Compute) -> None:
        self._inner = compute
        self.flops = 0

    async def run(self, function: JobFunction, *values: Any) -> Any:
        """See the seam."""
        flops = check_job(function).flops(*values)
        result = await self._inner.run(function, *values)
        self.flops += flops
        return result
