"""A receiver: takes in every package of statistics exactly once, keeps the sum in its memory, and fetches every big one.

The sum and what it is made of are committed in one transaction; the packets stay in the vault while they count, so that a new
version can replace its old one exactly.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from kuberml.core.errors import InternalError, RemoteError, Unreachable
from kuberml.core.ids import Digest
from kuberml.exchange.node import Node
from kuberml.knowledge.card import decode_card
from kuberml.knowledge.contributions import Contributions, Plan, apply, plan
from kuberml.knowledge.kinds.statistics import Statistics
from kuberml.knowledge.manifest import single
from kuberml.knowledge.want import Offer, Want
from kuberml.worlds.live.world import LiveWorld
from tests.faults.controls import Controls
from tests.faults.packages import BASIS, BIG, TASK

PAUSE_S = 0.3
SWEEP_S = 5.0


class Receiver:
    """One node's sum."""

    def __init__(self, world: LiveWorld, node: Node) -> None:
        self.world, self.node, self.missed = world, node, False
        self.since = self.big_since = 0
        node.memory.setdefault(made_of=Contributions(), total=None, bigs={})

    @property
    def made_of(self) -> Contributions:
        return self.node.memory.made_of

    async def look(self) -> None:
        """Take in what is new; what could not be had is asked for again from the beginning."""
        self.missed = False
        offers, self.since = await self.node.find_new(Want(TASK, kinds=("statistics",), bases=(BASIS,), limit=512), self.since)
        for offer in offers:
            if single(offer.signed.card) not in self.made_of.entries:
                await self.attempt(self.absorb(offer), offer)
        offers, self.big_since = await self.node.find_new(Want(TASK, kinds=("weights",), limit=64), self.big_since)
        for offer in offers:
            card = offer.signed.card
            if self.node.memory.bigs.get(card.author, -1) < card.version:
                await self.attempt(self.take_big(offer), offer)
        if self.missed:
            self.since = self.big_since = 0

    async def attempt(self, doing: Any, offer: Offer) -> None:
        try:
            await doing
        except (RemoteError, Unreachable, InternalError, OSError, KeyError) as error:
            self.node.record("undelivered", card=offer.signed.digest, why=str(error))
            self.missed = True

    async def absorb(self, offer: Offer) -> None:
        card, held = offer.signed.card, {}
        packet = await self.node.fetch(offer)
        self.node.place.store.card(card.digest)  # on a full disk it is not held, and what is not at hand cannot be replaced
        for known in self.node.place.store.cards():
            one = decode_card(self.node.place.store.card(known)).card
            held[one.content] = known
        step = plan(self.made_of, (single(card),), {each: frozenset({each}) for each in held})
        if not isinstance(step, Plan):
            raise RemoteError(step.reason)
        packets = {each: await self.own(held[each]) for each in {*step.subtract, *step.add}}
        after = apply(step, self.node.memory.total, packet, packets.__getitem__)
        self.node.memory.update(made_of=step.after, total=after)
        self.tidy()

    async def take_big(self, offer: Offer) -> None:
        card = offer.signed.card
        await self.node.fetch(offer)
        self.node.memory.update(bigs={**self.node.memory.bigs, card.author: card.version})
        self.tidy()

    async def own(self, known: Digest) -> Statistics:
        signed = decode_card(self.node.place.store.card(known))
        return await self.node.fetch(Offer(signed, (self.node.id,), 0, 0, 0))

    def tidy(self) -> None:
        """Forget the cards that do not count any more."""
        store = self.node.place.store
        for known in list(store.cards()):
            card = decode_card(store.card(known)).card
            counts = single(card) in self.made_of.entries if card.kind == "statistics" else False
            if not counts:
                store.delete_card(known)

    def status(self) -> dict[str, Any]:
        total = self.node.memory.total
        return {
            "entries": sorted([e.author, e.slot, e.version] for e in self.made_of.entries),
            "total": None if total is None else total.digest,
            BIG: self.node.memory.bigs,
        }


async def receive_on(world: LiveWorld, node: Node, controls: Controls) -> None:
    """Until cancelled."""
    receiver, swept_s = Receiver(world, node), time.monotonic()
    while True:
        try:
            await receiver.look()
            if time.monotonic() - swept_s > SWEEP_S:
                world.store.sweep()
                swept_s = time.monotonic()
        except OSError as error:
            node.record("cannot", why=str(error))
        controls.say(**receiver.status())
        await asyncio.sleep(PAUSE_S)
