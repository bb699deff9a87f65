"""How a node talks: requests to other nodes and to the hub, every received byte counted against its budget."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.core.ids import NodeId
from kuberml.exchange import wire
from kuberml.exchange.memory import Memory
from kuberml.exchange.place import OverBudget, Place
from kuberml.knowledge.signing import check_card
from kuberml.knowledge.want import Offer

HUB_TIMEOUT_S = 30.0
SAVES = 64
"""A crash gives back at most this part of the budget: what was received is remembered in such steps."""

M = TypeVar("M")

NodeHandler = Callable[[NodeId, Offer | None], Awaitable[Offer | None]]
"""Answers an ask: (who asks, the knowledge it is about) -> knowledge, or None."""


class Talk:
    """One node's conversations, and what they cost it."""

    def __init__(self, place: Place, memory: Memory) -> None:
        self._place, self._memory = place, memory
        self.received_bytes: int = memory.get("received_bytes", 0)
        self.refusals: dict[str, str] = {}
        """What the hub refused when it was asked last, by the name of the request, and why."""

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
        if budget is None:
            return
        if self.received_bytes - self._memory.get("received_bytes", 0) >= budget // SAVES:
            with contextlib.suppress(OSError):  # a full disk must not stop what is being received
                self._memory.update(received_bytes=self.received_bytes)
        if self.received_bytes > budget:
            node = self._place.transport.node
            raise OverBudget(f"{node} has received {self.received_bytes} bytes; its budget is {budget}")

    async def consult(self, name: str, body: bytes, sort: type[M]) -> M | None:
        """Ask the hub a question; None when it is away, refuses or talks nonsense (recorded)."""
        answer = await self.hub(name, body)
        try:
            return wire.read(answer, sort) if answer else None
        except RemoteError as error:
            self._place.recorder.record("hub", asked=name, why=str(error))
            return None

    async def hub(self, name: str, body: bytes) -> bytes:
        """Ask the hub; b"" when it is away or refuses (recorded): what is local goes on."""
        if self._place.hub is None:
            return b""
        try:
            answer = await self._place.transport.ask(self._place.hub, name, body, timeout_s=HUB_TIMEOUT_S)
        except (Unreachable, RemoteError) as error:
            self._place.recorder.record("hub", asked=name, why=str(error))
            if isinstance(error, RemoteError):
                self.refusals[name] = str(error)
            return b""
        self.refusals.pop(name, None)
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
        """A transport handler that reads the request, lets `handler` answer, and writes the reply.

        It raises Unreachable where this node's disk refuses: for who asks it is as if nobody were here.
        """

        async def respond(asker: NodeId, body: bytes) -> bytes:
            self.received(len(body))
            signed = wire.read(body, wire.Request).signed
            about = None if signed is None else Offer(check_card(signed), (asker,), 0, 0, 0)
            try:
                reply = await handler(asker, about)
            except OSError as error:
                raise Unreachable(f"{self._place.transport.node} cannot: {error}") from error
            return wire.write(wire.Reply(None if reply is None else reply.signed))

        return respond
