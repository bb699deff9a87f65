"""A publisher: says something new every now and then, and writes down what the hub has accepted.

Accepted is what the hub has acknowledged, of the first publisher; the others also ask it to say that it keeps a copy. After a
restart it looks at what it had said and was not confirmed, as any program does that wants to be sure.
"""

from __future__ import annotations

import asyncio

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.exchange.node import Node
from kuberml.worlds.live.names import HUB
from kuberml.worlds.live.world import LiveWorld
from tests.faults.controls import LOOK_S, Controls
from tests.faults.packages import BIG, SLOTS, content

PAUSE_S = 0.4
KEEP_S = 10.0
BIG_EVERY = 6


class Publisher:
    """One node's publications."""

    def __init__(self, world: LiveWorld, node: Node, controls: Controls) -> None:
        self.world, self.node, self.controls = world, node, controls
        self.accepted = {line["card"] for line in controls.journal()}
        self.said: set[str] = set()  # by this process
        self.asks = node.id != "pub-0"

    async def say(self, slot: str, version: int) -> None:
        """Publish; saying the same again changes nothing."""
        offer = await self.node.publish(content(self.node.id, slot, version), slot=slot, version=version)
        self.said.add(offer.signed.digest)

    async def say_more(self, slot: str) -> None:
        """The next version of a slot."""
        own = self.node.own(slot)
        await self.say(slot, 0 if own is None else own.signed.card.version + 1)

    async def confirm(self) -> bool:
        """Whether the hub has confirmed, now or before, the newest of every slot of this node."""
        for slot in (*map(str, range(SLOTS)), BIG):
            own = self.node.own(slot)
            if own is None or own.signed.digest in self.accepted:
                continue
            card = own.signed.card
            try:
                if card.digest not in self.said:
                    await self.say(slot, card.version)
                if self.world.outbox.due:
                    raise Unreachable(f"{self.world.outbox.due} announcements are due")
                if self.asks:
                    await self.world.transport.ask(HUB, "keep", card.digest.encode(), timeout_s=KEEP_S)
            except (Unreachable, RemoteError) as error:
                self.controls.say(phase=-1, why=str(error))
                return False
            self.controls.accept(slot=slot, version=card.version, card=card.digest)
            self.accepted.add(card.digest)
        return True


async def publish_on(world: LiveWorld, node: Node, controls: Controls) -> None:
    """Until cancelled."""
    publisher = Publisher(world, node, controls)
    count, marked = len(publisher.accepted), -1
    while True:
        town = controls.town
        try:
            if not await publisher.confirm():
                await asyncio.sleep(LOOK_S)
                continue
            if town["quiet"] and marked == town["phase"]:
                controls.say(phase=marked, due=world.outbox.due)
                await asyncio.sleep(LOOK_S)
                continue
            await publisher.say_more(BIG if count % BIG_EVERY == BIG_EVERY - 1 else str(count % SLOTS))
            count += 1
            if await publisher.confirm() and town["quiet"]:
                marked = town["phase"]
        except OSError as error:  # its disk is full: nothing was said, or nothing was written down
            node.record("cannot", why=str(error))
        await asyncio.sleep(LOOK_S if town["quiet"] else PAUSE_S)
