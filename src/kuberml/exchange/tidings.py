"""Tidings of new data: who learns tells a server of each stage that has arrived, until the server has given a receipt.

A tiding is a package about the stage: its labels are on the card, and what is in it is the paradigm's. The receipt is the
same card; without one it is told again, so neither a lost message nor a restart loses a stage.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from kuberml.core.ids import NodeId
from kuberml.exchange.node import Node
from kuberml.exchange.place import Stage
from kuberml.knowledge.want import Offer

AGAIN_S = 1.0
"""Between two tries of telling."""
PATIENCE_S = 60.0
"""With one receipt."""

About = Callable[[int, Stage], Awaitable[Any]]
"""What to tell of a stage: (its number, the stage) -> a value of some kind."""


async def tell(node: Node, about: About) -> None:
    """Tell every server of every stage of this node's data as it arrives, and in the end that it was the last."""
    number, offer = 0, None
    async for stage in node.arriving():
        offer = await node.publish(await about(number, stage), slot="stage", version=number, listed=False)
        await _told(node, "arrived", offer)
        number += 1
    await _told(node, "complete", offer)


async def _told(node: Node, name: str, offer: Offer | None) -> None:
    while offer is not None:
        async for receipt in node.ask(node.peers("server"), name, offer, timeout_s=PATIENCE_S):
            if receipt.signed.digest == offer.signed.digest:
                return
        await node.sleep(AGAIN_S)


class Tidings:
    """What a server is told. It begins to listen at once; who has told everything is remembered."""

    def __init__(self, node: Node) -> None:
        self._node, self._some = node, asyncio.Event()
        self._waiting: dict[str, Offer] = {}
        self._known: set[str] = set()
        self._complete: set[NodeId] = set(node.memory.get("complete", ()))
        node.serve(arrived=self._arrived, complete=self._ended)

    @property
    def waiting(self) -> bool:
        """Whether something was told that has not been taken yet."""
        return bool(self._waiting)

    def take(self) -> list[Offer]:
        """What was told since the last time, in order."""
        came, self._waiting = list(self._waiting.values()), {}
        return came

    async def each(self, settle_s: float = 0.0) -> AsyncIterator[list[Offer]]:
        """What is told, together with what comes within `settle_s` after it; ends when everybody has told everything."""
        while True:
            if self._waiting:
                if settle_s:
                    await self._node.sleep(settle_s)
                yield self.take()
                continue
            if self._complete and set(self._node.peers("client")) <= self._complete:
                return
            self._some.clear()
            await self._some.wait()

    async def _arrived(self, _: NodeId, offer: Offer | None) -> Offer | None:
        if offer is not None and offer.signed.digest not in self._known:
            self._known.add(offer.signed.digest)
            self._waiting[offer.signed.digest] = offer
            self._some.set()
        return offer

    async def _ended(self, asker: NodeId, offer: Offer | None) -> Offer | None:
        if asker not in self._complete:
            self._complete.add(asker)
            self._node.memory.update(complete=sorted(self._complete))
            self._some.set()
        return offer
