"""Slots: the newest that this node published under each name, and the newest that it has seen of others."""

from __future__ import annotations

import asyncio

import msgspec

from kuberml.core.ids import NodeId
from kuberml.core.seam import Recorder, Store
from kuberml.exchange.wire import Request
from kuberml.knowledge.card import Card, Knowledge, decode_card
from kuberml.knowledge.want import Offer


class Slots:
    """One node's."""

    def __init__(self, store: Store, author: str, node: NodeId, recorder: Recorder) -> None:
        """Begin with what the store holds of `author`'s own: a process that comes back serves what it served before."""
        self._recorder, self._news = recorder, asyncio.Condition()
        self._mine: dict[str, Offer] = {}
        self._seen: dict[tuple[NodeId, str], Offer] = {}
        for name in store.cards():
            signed = decode_card(store.card(name))
            card = signed.card
            if card.author == author and card.version > self._version(card.slot):
                self._mine[card.slot] = Offer(signed, (node,), 0, 0, 0)

    def own(self, slot: str) -> Offer | None:
        """What this node published last in a slot."""
        return self._mine.get(slot)

    async def publish(self, offer: Offer) -> None:
        """From now on this is the newest of its slot here; whoever waits for it is told."""
        self._mine[offer.signed.card.slot] = offer
        async with self._news:
            self._news.notify_all()

    def as_said_before(self, knowledge: Knowledge) -> Knowledge:
        """A package as it was signed the first time, if only the time is new: a restart says nothing twice in two ways."""
        card, before = knowledge.card, self._mine.get(knowledge.card.slot)
        if (
            before is None
            or msgspec.structs.replace(card, learned_at_ms=before.signed.card.learned_at_ms) != before.signed.card
        ):
            return knowledge
        return Knowledge(before.signed, knowledge.blobs)

    async def answer(self, request: Request) -> Offer | None:
        """The newest in the slot that was asked for, once it has the version that was asked for."""
        async with self._news:
            await self._news.wait_for(lambda: self._version(request.slot) >= request.at_least)
        return self._mine.get(request.slot)

    def see(self, node: NodeId, slot: str, offer: Offer | None) -> None:
        """Take in what another node answered about a slot, if it is about that slot and not older than what it said before."""
        if offer is None:
            return
        card, before = offer.signed.card, self._seen.get((node, slot))
        if card.slot == slot and (before is None or card.version >= before.signed.card.version):
            self._seen[node, slot] = offer
        else:
            self._recorder.record("ignored", card=card.digest, why=_not_it(node, slot, card))

    def newest(self, node: NodeId, slot: str) -> Offer | None:
        """The newest that was seen of another node, if anything."""
        return self._seen.get((node, slot))

    def _version(self, slot: str) -> int:
        return self._mine[slot].signed.card.version if slot in self._mine else -1


def _not_it(node: NodeId, slot: str, card: Card) -> str:
    return f"{node} was asked for the newest in {slot!r} and said version {card.version} of {card.slot!r}"
