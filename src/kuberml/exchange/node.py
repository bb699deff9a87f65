"""The node: all that a paradigm sees. Written once over the four interfaces of the seam, so it is the same in every world.

publish(value, slot=, version=, keep=)     latest(nodes, slot=, timeout_s=)      find(want)   fetch(offer)   subscribe(want)
ask(nodes, name, offer, timeout_s=)        serve(name=handler)
peers(role)   neighbours   compute(job, *values)   memory   rng(purpose, k)   clock   record(...)   deploy(predictor)   done
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from kuberml.core.errors import KuberError, RemoteError, Unreachable
from kuberml.core.ids import Digest, NodeId, digest_of
from kuberml.core.jobs import check_job
from kuberml.core.rng import rng, seed_of
from kuberml.core.values import digest
from kuberml.exchange import wire
from kuberml.exchange.delivery import Delivered, Delivery
from kuberml.exchange.delivery.progress import Watch
from kuberml.exchange.memory import Memory
from kuberml.exchange.place import LocalData, OverBudget, Place
from kuberml.exchange.slots import Slots
from kuberml.exchange.talk import NodeHandler, Talk
from kuberml.knowledge.card import Claim, Knowledge, SignedCard, Terms, encode_card
from kuberml.knowledge.fraud import SignedFraudProof
from kuberml.knowledge.kind import kind_of
from kuberml.knowledge.pack import check_limits, make, open_value
from kuberml.knowledge.signing import check_card
from kuberml.knowledge.terms import allowed
from kuberml.knowledge.verdict import SignedVerdict, check_verdict
from kuberml.knowledge.want import Offer, Want
from kuberml.learning.learner import Learner

__all__ = ["LocalData", "Node", "OverBudget", "Place", "fits"]

T = TypeVar("T")
MS = 1_000_000
"""Nanoseconds in a millisecond."""
OPEN_BYTES = 1 << 30
"""Of a package that is opened, which takes some times its size of memory. Larger ones can be delivered."""


class Node:
    """One learner's place in the world."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.id, self.role, self.task = place.transport.node, place.role, place.task
        self.clock, self.neighbours, self.mixing = place.clock, place.neighbours, place.mixing
        self.memory = Memory(place.store)
        self._talk = Talk(place, self.memory)
        self._done = asyncio.Event()
        self._slots = Slots(place.store, self.author, self.id, place.recorder)
        self.delivery = Delivery(place.transport, place.store, on_bytes=self._talk.received)
        place.transport.serve("latest", self._answer_latest)

    # --- who I am, and my own things -------------------------------------------------------------------------------

    @property
    def learner(self) -> Learner:
        """What trains here (the state is in `memory`)."""
        assert self.place.learner is not None, f"node {self.id} has no learner"
        return self.place.learner

    @property
    def data(self) -> LocalData:
        """This node's private data, by reference."""
        assert self.place.data is not None, f"node {self.id} has no data"
        return self.place.data

    @property
    def author(self) -> str:
        """This node's public key."""
        return self.place.keys.public

    @property
    def now_ms(self) -> int:
        """The clock in milliseconds, as cards write it."""
        return self.clock.now_ns() // MS

    @property
    def left_bytes(self) -> int | None:
        """Bytes that this node may still receive; None: no limit."""
        return self._talk.left_bytes

    @property
    def received_bytes(self) -> int:
        """Bytes received so far: blobs, cards, answers, requests."""
        return self._talk.received_bytes

    def rng(self, purpose: str, k: int = 0) -> np.random.Generator:
        """This node's k-th stream for a purpose."""
        return rng(self.place.seed, "node", self.id, purpose, k)

    def seed(self, purpose: str, k: int = 0) -> int:
        """The same as an integer, for jobs."""
        return seed_of(self.place.seed, "node", self.id, purpose, k)

    def secret(self, purpose: str, k: int = 0, size_bytes: int = 32) -> bytes:
        """Bytes for keys, masks and noise that must not be guessed; `rng` follows from a seed that may be known to all.

        They are the operating system's, and other ones each time; of a simulated node they follow from its seed.
        """
        drawn = self.place.secrets
        return os.urandom(size_bytes) if drawn is None else drawn(purpose, k, size_bytes)

    def peers(self, role: str) -> tuple[NodeId, ...]:
        """Nodes of a role that are present, sorted, without this one."""
        return self.place.transport.alive(role)

    def record(self, event: str, **fields: Any) -> None:
        """Take down that something happened here."""
        self.place.recorder.record(event, **fields)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self.clock.sleep(seconds)

    async def compute(self, function: Callable[..., Any], *values: Any) -> Any:
        """Run a job (see `core.jobs`) on this node's device. Its inputs are frozen now.

        Memory may change while it runs: apply the result to the memory as it is then.
        """
        job, started_ns = check_job(function), self.clock.now_ns()
        result = await self.place.compute.run(job, *values)
        self.record("job", function=job.job_name, started_ns=started_ns, ended_ns=self.clock.now_ns())
        return result

    def deploy(self, predictor: Any, learned: Iterable[SignedCard] = ()) -> None:
        """Serve this predictor from now on; `learned` are the cards whose knowledge is new in it."""
        cards = list(learned)
        learned_at_ms = tuple(signed.card.learned_at_ms for signed in cards)
        self.record("deployed", model=digest(predictor), sources=[s.digest for s in cards], learned_at_ms=list(learned_at_ms))
        if self.place.observer is not None:
            self.place.observer.deployed(self.id, predictor, learned_at_ms)

    @property
    def done(self) -> bool:
        """Whether the world has asked this node to end."""
        return self._done.is_set()

    async def until_done(self) -> None:
        """Stay and serve until the world asks this node to end."""
        await self._done.wait()

    def end(self) -> None:
        """The world asks this node to end (called by the world)."""
        self._done.set()

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

    def hold(self, knowledge: Knowledge) -> None:
        """Keep a package in the store, so that others can read it here."""
        for blob in knowledge.blobs:
            self.place.store.put(blob)
        self.place.store.put_card(knowledge.signed.digest, encode_card(knowledge.signed))

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
        """What the hub's broker offers for a want, best first; [] when the hub is away. Own knowledge is left out."""
        return (await self._found(wire.Query(want)))[0]

    async def find_new(self, want: Want, since: int) -> tuple[list[Offer], int]:
        """The same of what came to the hub after `since` (0: ever), and what to ask with next. The hub away: [], since."""
        return await self._found(wire.Query(want, since))

    async def subscribe(self, want: Want) -> AsyncIterator[Offer]:
        """Whatever others publish from now on that fits a standing want, as it comes."""
        async for _, body in self.place.transport.subscribe(f"cards/{want.task}"):
            self._talk.received(len(body))
            try:
                news = wire.read(body, wire.Announcement)
            except RemoteError as error:
                self.record("ignored", why=str(error))
                continue
            if fits(want, news.signed) and news.signed.card.author != self.author and self._trustworthy(news.signed):
                yield Offer(news.signed, (news.holder,), 0, 0, 0)

    async def fetch(self, offer: Offer) -> Any:
        """Deliver a package and open it: the checked value. It is held here afterwards, for others too.

        Raises:
            RemoteError: its author signed what cannot be, or not what the card says, or its terms forbid it. No trace is left.
            Unreachable: no holder gave it (each is named with its reason), or the budget of bytes is spent (OverBudget).
        """
        signed = self._checked(offer)
        if signed.card.size_bytes > OPEN_BYTES:
            size_bytes = signed.card.size_bytes
            raise RemoteError(f"{signed.digest[:12]}: {size_bytes} bytes cannot be opened, {OPEN_BYTES} can; use deliver")
        came = await self.delivery.collect(signed.card, self._others(offer), watch=self._watch(signed))
        knowledge = Knowledge(signed, came.blobs)
        try:
            content = open_value(knowledge)
        except BaseException:
            came.drop()
            raise
        try:
            came.keep(self.place.store)
            self.place.store.put_card(signed.digest, encode_card(signed))
        except OSError as error:  # a full disk: it can be used, not passed on
            self.record("not held", card=signed.digest, why=str(error))
        self._came(offer, came)
        return content

    async def deliver(self, offer: Offer) -> None:
        """Bring a package of any size into the store, without opening it.

        Raises:
            RemoteError, Unreachable: as `fetch`.
            OSError: the disk is full or broken.
        """
        signed = self._checked(offer)
        came = await self.delivery.deliver(signed.card, self._others(offer), watch=self._watch(signed))
        self.place.store.put_card(signed.digest, encode_card(signed))
        self._came(offer, came)

    def _watch(self, signed: SignedCard) -> Watch | None:
        return None if self.place.watch is None else self.place.watch(signed.card)

    async def take(self, offer: Offer, sort: type[T]) -> T | None:
        """As `fetch`, of one package among many: None, and recorded, where it does not arrive or is not a `sort`.

        Raises:
            OverBudget: this node may receive no more.
        """
        try:
            content = await self.fetch(offer)
            if not isinstance(content, sort):
                raise RemoteError(f"{sort.__name__} is needed, and a package of kind {offer.signed.card.kind!r} was sent")
        except OverBudget:
            raise
        except (RemoteError, Unreachable) as error:
            self.record("undelivered", card=offer.signed.digest, why=str(error))
            return None
        return content

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

        When the hub is away: nothing, and `since_ms` as it was.
        """
        about = wire.About(tuple(sorted(cards)), since_ms)
        board = await self._talk.consult("verdicts", wire.write(about), wire.Board)
        if board is not None and board.as_of_ms < since_ms:  # the hub's clock was ahead, and has been put right
            board = await self._talk.consult("verdicts", wire.write(wire.About(about.cards)), wire.Board)
        if board is None:
            return [], since_ms
        return [one for one in board.verdicts if self._is_testimony(one, about.cards)], board.as_of_ms

    # --- inside ----------------------------------------------------------------------------------------------------

    async def _found(self, query: wire.Query) -> tuple[list[Offer], int]:
        answer = await self._talk.consult("find", wire.write(query), wire.Offers) or wire.Offers((), query.since or 0)
        good = [one for one in answer.offers if self._trustworthy(one.signed) and one.signed.card.author != self.author]
        self.record("found", want=digest_of(wire.write(query.want)), offers=[offer.signed.digest for offer in good])
        return good, answer.upto

    def _checked(self, offer: Offer) -> SignedCard:
        """A card that may be delivered here. Raises RemoteError: why not."""
        signed = check_card(offer.signed)
        check_limits(signed)  # before a byte is moved: a card may name sizes and cuts that cannot be
        if why := self.forbidden(signed):
            raise RemoteError(f"{signed.digest[:12]}: {why}")
        return signed

    def _others(self, offer: Offer) -> Sequence[NodeId]:
        return [node for node in offer.holders if node != self.id] or offer.holders

    def _came(self, offer: Offer, came: Delivered) -> None:
        """Record who really gave a package; what was here already is its first holder's."""
        card, gave = offer.signed.card, came.sources or offer.holders[:1]
        self.record("fetched", card=offer.signed.digest, holder=gave[0] if len(gave) == 1 else list(gave),
                    size_bytes=card.size_bytes)  # fmt: skip

    async def _answer_latest(self, asker: NodeId, body: bytes) -> bytes:
        self._talk.received(len(body))
        request = wire.read(body, wire.Request)
        offer = await self._slots.answer(request)
        return wire.write(wire.Reply(None if offer is None else offer.signed))

    def _is_testimony(self, signed: SignedVerdict, cards: tuple[Digest, ...]) -> bool:
        """Whether a verdict is on one of the cards asked for, and its witness's own."""
        try:
            return check_verdict(signed).verdict.card in cards
        except RemoteError as error:
            self.record("ignored", card=signed.verdict.card, why=str(error))
            return False

    def forbidden(self, signed: SignedCard) -> str:
        """Why a card's terms do not allow its use here and now; "" if they do."""
        place = self.place
        why = allowed(signed.card.terms, purpose=place.purpose, region=place.region, now_ms=self.now_ms,
                      licences=place.licences or None)  # fmt: skip
        return f"its terms do not allow it here: {why}" if why is not None else ""

    def _trustworthy(self, signed: SignedCard) -> bool:
        try:
            why = self.forbidden(check_card(signed))
        except KuberError as error:
            why = str(error)
        if why:
            self.record("ignored", card=signed.digest, why=why)
        return not why


def fits(want: Want, signed: SignedCard) -> bool:
    """Whether a card may answer a want at all."""
    card = signed.card
    return (
        card.task == want.task
        and (not want.kinds or card.kind in want.kinds)
        and (not want.bases or card.basis in want.bases)
        and (not want.labels_ppm or not want.labels_ppm.keys().isdisjoint(card.labels))
        and card.learned_at_ms >= want.newer_than_ms
    )
