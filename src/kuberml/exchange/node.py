"""The node: all that a paradigm sees. Written once over the four interfaces of the seam, so it is the same in every world.

publish(value, slot=, version=, keep=)     latest(nodes, slot=, timeout_s=)      find(want)   fetch(offer)   subscribe(want)
ask(nodes, name, offer, timeout_s=)        serve(name=handler)
peers(role)   neighbours   compute(job, *values)   memory   rng(purpose, k)   clock   record(...)   deploy(predictor)   done
data   arriving()   stages_so_far

What concerns itself alone is in `oneself`, how packages come to it in `receiving`; the rest is here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from kuberml.core.errors import RemoteError
from kuberml.core.ids import Digest, NodeId, digest_of
from kuberml.exchange import wire
from kuberml.exchange.paging import Pages
from kuberml.exchange.place import LocalData, OverBudget, Place
from kuberml.exchange.receiving import Receiving
from kuberml.exchange.slots import Slots
from kuberml.exchange.talk import NodeHandler
from kuberml.exchange.testimony import Testimony
from kuberml.knowledge.card import Claim, Terms
from kuberml.knowledge.fraud import SignedFraudProof
from kuberml.knowledge.kind import kind_of
from kuberml.knowledge.pack import make
from kuberml.knowledge.verdict import SignedVerdict
from kuberml.knowledge.want import Offer, Want, fits

__all__ = ["LocalData", "Node", "OverBudget", "Place", "fits"]


@dataclass(frozen=True)
class Page:
    """One answer of a hub to a want.

    Attributes:
        offers: best first, without what is one's own or cannot be trusted.
        upto: what to ask with next.
        named: how many the hub named, those left out among them.
        is_full: it named as many as it was asked for, so there may be more.
    """

    offers: list[Offer]
    upto: int
    named: int
    is_full: bool


class Node(Receiving):
    """One learner's place in the world."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._slots = Slots(place.store, self.author, self.id, place.recorder)
        self._testimony = Testimony(self._talk, place.recorder)
        place.transport.serve("latest", self._answer_latest)

    # --- sharing ---------------------------------------------------------------------------------------------------

    async def publish(
        self,
        content: Any,
        *,
        slot: str,
        version: int,
        keep: int = 1,
        listed: bool = True,
        claims: tuple[Claim, ...] = (),
        parents: tuple[Digest, ...] = (),
        terms: Terms | None = None,
        learned_at_ms: int | None = None,
    ) -> Offer:
        """Pack, sign and hold a value for others, in place of what this slot held before.

        Args:
            content: a value of some kind (`Weights`, `Statistics`, ...).
            slot, version, keep: see `knowledge.card`; `keep` versions stay.
            listed: tell the hub, so that strangers find it; else only who asks this node gets it.
            claims, parents, terms: go on the card.
            learned_at_ms: when it was learned; default now.
        """
        learned = self.now_ms if learned_at_ms is None else learned_at_ms
        knowledge = make(
            kind_of(content), content, keys=self.place.keys, task=self.task, slot=slot, version=version,
            learned_at_ms=learned, claims=claims, parents=parents, terms=terms or Terms(),
        )  # fmt: skip
        knowledge = self._slots.as_said_before(knowledge)
        self.hold(knowledge)
        offer = Offer(knowledge.signed, (self.id,), 0, 0, 0)
        card = knowledge.card
        self.record("published", card=card.digest, kind=card.kind, slot=slot, version=version,
                    size_bytes=card.size_bytes, labels=dict(card.labels), parents=list(parents))  # fmt: skip
        await self._slots.publish(offer)
        if listed:
            await self._talk.hub("announce", wire.write(wire.Announcement(knowledge.signed, self.id, keep)))
        return offer

    def own(self, slot: str) -> Offer | None:
        """What this node published last in a slot; None: nothing yet."""
        return self._slots.own(slot)

    async def latest(self, nodes: Sequence[NodeId], *, slot: str, timeout_s: float, at_least: int = 0) -> list[Offer]:
        """The newest that each node published in a slot, in node order. Of a late one: what it had before, if anything.

        Args:
            nodes: whom to read from.
            slot: which slot.
            timeout_s: patience with each (all are asked at once).
            at_least: wait until they have this version.
        """
        body = wire.write(wire.Request(slot=slot, at_least=at_least))
        replies = await asyncio.gather(*(self._talk.ask(node, "latest", body, timeout_s) for node in nodes))
        for node, offer in zip(nodes, replies, strict=True):
            self._slots.see(node, slot, offer)
        return [offer for node in nodes if (offer := self._slots.newest(node, slot)) is not None]

    async def find(self, want: Want) -> list[Offer]:
        """What the hub's broker offers for a want, best first; [] when the hub is away. Own knowledge is left out.

        [] also where the hub refused; `refused("find")` then says why.
        """
        return (await self._found(wire.Query(want))).offers

    def refused(self, name: str) -> str:
        """Why the hub refused a request of this name when it was asked last; "": it did not."""
        return self._talk.refusals.get(name, "")

    async def find_new(self, want: Want, since: int) -> tuple[list[Offer], int]:
        """The same of what came to the hub after `since` (0: ever), and what to ask with next. The hub away: [], since."""
        page = await self.find_page(want, since)
        return page.offers, page.upto

    async def find_page(self, want: Want, since: int) -> Page:
        """As `find_new`, with what says whether there may be more: who asks for `wire.OFFERED` gets the rest page by page."""
        return await self._found(wire.Query(want, since))

    def pages(self, since: int) -> Pages:
        """For who reads page after page from `since` on: until when. A hub that would never end is recorded."""
        return Pages(since, lambda why: self.record("hub", asked="find", why=why))

    async def subscribe(self, want: Want) -> AsyncIterator[Offer]:
        """Whatever others publish from now on that fits a standing want, as it comes. Close it (`aclosing`)."""
        async with aclosing(cast(Any, self.place.transport.subscribe(f"cards/{want.task}"))) as heard:
            async for _, body in heard:
                self._talk.received(len(body))
                try:
                    news = wire.read(body, wire.Announcement)
                except RemoteError as error:
                    self.record("ignored", why=str(error))
                    continue
                if fits(want, news.signed) and news.signed.card.author != self.author and self._trustworthy(news.signed):
                    yield Offer(news.signed, (news.holder,), 0, 0, 0)

    # --- asking ----------------------------------------------------------------------------------------------------

    def serve(self, **handlers: NodeHandler) -> None:
        """Answer what others `ask`, by name."""
        for name, handler in handlers.items():
            self.place.transport.serve(name, self._talk.answer(handler))

    async def ask(self, nodes: Sequence[NodeId], name: str, about: Offer | None, *, timeout_s: float) -> AsyncIterator[Offer]:
        """Ask several nodes the same; their answers in node order. Who is late, gone or refuses is left out (and recorded)."""
        body = wire.write(wire.Request(about.signed if about else None))
        replies = [asyncio.ensure_future(self._talk.ask(node, name, body, timeout_s)) for node in nodes]
        try:
            for reply in replies:
                offer = await reply
                if offer is not None:
                    yield offer
        finally:
            for reply in replies:
                reply.cancel()

    # --- the verdict board -----------------------------------------------------------------------------------------

    async def testify(self, verdict: SignedVerdict) -> None:
        """Tell the hub what a test of somebody's knowledge showed here."""
        await self._talk.hub("verdict", wire.write(verdict))

    async def accuse(self, proof: SignedFraudProof) -> None:
        """Tell everybody that a claim is false; who doubts it runs it again."""
        accused = proof.proof.accused
        self.record("accused", card=accused.digest, author=accused.card.author)
        await self._talk.hub("fraud", wire.write(proof))

    async def verdicts(self, cards: Iterable[Digest], since_ms: int = 0) -> tuple[list[SignedVerdict], int]:
        """What others testified about these cards from a time of the hub on, each checked, and the hub's time now.

        When the hub is away: what came until then, and `since_ms` as it was. Many cards are asked about in several questions.
        """
        return await self._testimony.heard(cards, since_ms)

    # --- inside ----------------------------------------------------------------------------------------------------

    async def _found(self, query: wire.Query) -> Page:
        answer = await self._talk.consult("find", wire.write(query), wire.Offers) or wire.Offers((), query.since or 0)
        good = [one for one in answer.offers if self._trustworthy(one.signed) and one.signed.card.author != self.author]
        self.record("found", want=digest_of(wire.write(query.want)), offers=[offer.signed.digest for offer in good])
        return Page(good, answer.upto, len(answer.offers), len(answer.offers) >= min(query.want.limit, wire.OFFERED))

    async def _answer_latest(self, asker: NodeId, body: bytes) -> bytes:
        self._talk.received(len(body))
        request = wire.read(body, wire.Request)
        offer = await self._slots.answer(request)
        return wire.write(wire.Reply(None if offer is None else offer.signed))
