"""What arrives: announced while we listen, or found at the hub when we look; delivered, checked, and kept in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.core.ids import Digest
from kuberml.core.tasks import each
from kuberml.core.values import frozen
from kuberml.exchange import wire
from kuberml.exchange.continual.rules import Rules
from kuberml.exchange.continual.trying import Sealed
from kuberml.exchange.node import Node
from kuberml.knowledge.card import Knowledge, SignedCard, decode_card, encode_card
from kuberml.knowledge.grid import Grid
from kuberml.knowledge.kinds.statistics import Statistics
from kuberml.knowledge.manifest import MANIFEST
from kuberml.knowledge.pack import open_value
from kuberml.knowledge.want import Offer, Want
from kuberml.knowledge.withdrawal import Withdrawal

WAITING_MAX = 4096
"""Offers that wait; beyond it they are looked up at the hub again."""
AT_ONCE = 4
"""Packets on their way: edges that learn at one instant do not wait for each other's round trips, and memory holds few."""


@dataclass(frozen=True)
class Arrival:
    """A delivered packet."""

    signed: SignedCard
    packet: Statistics

    @property
    def content(self) -> Digest:
        """What it is, whoever signed it."""
        return self.signed.card.content


class Intake:
    """Single packets on one basis, in the order in which they were heard of."""

    def __init__(
        self,
        node: Node,
        basis: Digest,
        dims: int,
        rules: Rules,
        *,
        wanted: Callable[[SignedCard], bool],
        refuse: Callable[[SignedCard, str], None],
    ) -> None:
        """`wanted`: whether a card is worth delivering now. `refuse`: told of what never can be."""
        self._node, self.dims, self._rules = node, dims, rules
        self._wanted, self._refuse = wanted, refuse
        self._grid = Grid.of(rules.clip, rules.step_log2)
        self._want = Want(node.task, kinds=("statistics",), bases=(basis,), limit=wire.OFFERED)
        self._offers: dict[Digest, Offer] = {}
        self._news = asyncio.Event()
        self._since = self._restarts = 0

    async def listen(self) -> None:
        """Take down what is announced, for ever."""
        async with aclosing(cast(Any, self._node.subscribe(self._want))) as announced:
            async for offer in announced:
                self._add(offer)

    async def look(self) -> None:
        """Ask the hub for what is new since the last look: page after page, as long as there is room for one more."""
        restarts, pages, is_more = self._restarts, self._node.pages(self._since), True
        while is_more:
            page = await self._node.find_page(self._want, self._since)
            if restarts == self._restarts:  # else everything is to be looked up again, since meanwhile
                self._since = page.upto
            for offer in page.offers:
                self._add(offer)
            has_room = restarts == self._restarts and len(self._offers) + wire.OFFERED <= WAITING_MAX
            is_more = page.is_full and has_room and pages.lead_on(page.upto)

    async def wait(self) -> None:
        """Until something is there."""
        await self._news.wait()

    async def take(self) -> list[Arrival]:
        """Deliver what waits, a batch at most. What cannot be delivered now is looked up again later."""
        chosen = [self._offers.pop(known) for known in list(self._offers)[: self._rules.batch]]
        copies: dict[Digest, list[Offer]] = {}
        for offer in chosen:
            copies.setdefault(offer.signed.card.content, []).append(offer)
        arrived: dict[Digest, Arrival | None] = {}

        async def deliver(same: list[Offer]) -> None:
            for offer in same:  # the second finds the first's bytes here
                arrived[offer.signed.digest] = await self._deliver(offer)

        await each(copies.values(), deliver, at_once=AT_ONCE)
        if not self._offers:
            self._news.clear()
        return [one for offer in chosen if (one := arrived[offer.signed.digest]) is not None]

    def forget(self, word: Withdrawal) -> None:
        """What waits and was taken back by its author is not delivered."""
        for known, offer in list(self._offers.items()):
            card = offer.signed.card
            if (card.author, card.slot) == (word.author, word.slot) and card.version <= word.version:
                del self._offers[known]

    def again(self) -> None:
        """Look everything up from the beginning: something that was not wanted may be now."""
        self._since, self._restarts = 0, self._restarts + 1

    def signed(self, card: Digest) -> SignedCard:
        """A card that was delivered before. Raises KeyError: it is not here."""
        return decode_card(self._node.place.store.card(card))

    def content(self, card: Digest) -> Any:
        """What was delivered under a card before, from the store, checked again. Raises KeyError, RemoteError."""
        store, signed = self._node.place.store, self.signed(card)
        return open_value(Knowledge(signed, tuple(store.get(ref.digest) for ref in signed.card.blobs)))

    def sealed(self, card: Digest) -> Sealed:
        """A packet that was delivered before, as it lies in the store. Raises KeyError: it is not here."""
        store, signed = self._node.place.store, self.signed(card)
        return Sealed(encode_card(signed), store.get(signed.card.blobs[0].digest))

    def drop(self, signed: SignedCard) -> None:
        """Forget a delivered packet: the card, and its blobs unless another card here names them too."""
        store = self._node.place.store
        try:
            store.card(signed.digest)
        except KeyError:
            return
        store.delete_card(signed.digest)
        needed = {ref.digest for known in store.cards() for ref in decode_card(store.card(known)).card.blobs}
        for ref in signed.card.blobs:
            if ref.digest not in needed:
                store.delete(ref.digest)

    def _add(self, offer: Offer) -> None:
        if not self._wanted(offer.signed):
            return
        if why := self._problem(offer.signed):
            self._refuse(offer.signed, why)
        else:
            if len(self._offers) >= WAITING_MAX:
                del self._offers[next(iter(self._offers))]
                self.again()
            self._offers[offer.signed.digest] = offer
            self._news.set()

    def _problem(self, signed: SignedCard) -> str:
        """Why a card cannot be absorbed, whatever is in the package; "" if it can."""
        card = signed.card
        facts = (card.facts.get("dims"), card.facts.get("step_log2"), card.facts.get("clip"), card.facts.get("profile"))
        if card.facts.get(MANIFEST) or card.parents:
            return "a merge cannot be judged packet by packet"
        if facts != (self.dims, self._grid.step_log2, self._grid.clip, "exact"):
            return f"its grid is {facts}, here it is {(self.dims, self._grid.step_log2, self._grid.clip, 'exact')}"
        if sum(card.labels.values()) > self._rules.samples_max:
            return f"it claims {sum(card.labels.values())} samples; {self._rules.samples_max} are believed"
        return "it is only lent" if card.terms.expires_at_ms is not None else ""

    async def _deliver(self, offer: Offer) -> Arrival | None:
        if not self._wanted(offer.signed):
            return None
        try:
            fetched = await self._node.fetch(offer)
            packet = await self._node.beside(lambda: frozen(fetched))  # now, beside the loop: jobs then take it as it is
            if not isinstance(packet, Statistics) or packet.dims != self.dims:
                raise RemoteError("it is not all of a single packet")
        except Unreachable as error:
            self._node.record("undelivered", card=offer.signed.digest, why=str(error))
            self.again()
            return None
        except RemoteError as error:
            self._refuse(offer.signed, str(error))
            return None
        return Arrival(offer.signed, packet)
