"""How a node talks: requests to other nodes and to the hub, every received byte counted against its budget."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.core.ids import NodeId
from kuberml.exchange import wire
from kuberml.exchange.place import OverBudget, Place
from kuberml.knowledge.signing import check_card
from kuberml.knowledge.want import Offer

HUB_TIMEOUT_S = 30.0

NodeHandler = Callable[[NodeId, Offer | None], Awaitable[Offer | None]]
"""Answers an ask: (who asks, the knowledge it is about) -> knowledge, or None."""


class Talk:
    """One node's conversations, and what they cost it."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.received_bytes = 0

    @property
    def left_bytes(self) -> int | None:
        """Bytes that may still be received; None: no limit."""
        budget = self._place.budget_bytes
        return None if budget is None else max(0, budget - self.received_bytes)

    def received(self, count: int) -> None:
        """Count received bytes.

        Raises:
            OverBudget: there were more than the budget allows.
        """
        self.received_bytes += count
        budget = self._place.budget_bytes
        if budget is not None and self.received_bytes > budget:
            node = self._place.transport.node
            raise OverBudget(f"{node} has received {self.received_bytes} bytes; its budget is {budget}")

    async def hub(self, name: str, body: bytes) -> bytes:
        """Ask the hub; b"" when it is away or refuses (recorded): what is local goes on."""
        if self._place.hub is None:
            return b""
        try:
            answer = await self._place.transport.ask(self._place.hub, name, body, timeout_s=HUB_TIMEOUT_S)
        except (Unreachable, RemoteError) as error:
            self._place.recorder.record("hub", asked=name, why=str(error))
            return b""
        self.received(len(answer))
        return answer

    async def ask(self, node: NodeId, name: str, body: bytes, timeout_s: float) -> Offer | None:
        """Ask a node; None when it is late, gone, refuses (recorded), or has nothing."""
        try:
            answer = await self._place.transport.ask(node, name, body, timeout_s=timeout_s)
            self.received(len(answer))
            signed = wire.read(answer, wire.Reply).signed
            return None if signed is None else Offer(check_card(signed), (node,), 0, 0, 0)
        except OverBudget:
            raise
        except (Unreachable, RemoteError) as error:
            self._place.recorder.record("unanswered", asked=name, of=node, why=str(error))
            return None

    def answer(self, handler: NodeHandler) -> Callable[[NodeId, bytes], Awaitable[bytes]]:
        """A transport handler that reads the request, lets `handler` answer, and writes the reply."""

        async def respond(asker: NodeId, body: bytes) -> bytes:
            self.received(len(body))
            signed = wire.read(body, wire.Request).signed
            about = None if signed is None else Offer(check_card(signed), (asker,), 0, 0, 0)
            reply = await handler(asker, about)
            return wire.write(wire.Reply(None if reply is None else reply.signed))

        return respond
