"""The hub: where nodes meet. It keeps the catalog and the verdict board, and brokers; it never sees data and runs no rounds.

Requests that it serves: `announce` (I hold this), `find` (who serves this want best?), `verdict` (what my test showed),
`verdicts` (what do others say of these cards?), `cards` (which are named so?), `fraud` (this claim is false, and here is the
proof), `withdraw` (I take back what I published), `withdrawn` (what was taken back since then?). What is announced, accused or
withdrawn it passes on to who subscribes to `cards/<task>`, `fraud/<task>` or `withdrawn/<task>`.
"""

from __future__ import annotations

from typing import Protocol

from kuberml.core import canonical
from kuberml.core.errors import RemoteError
from kuberml.core.ids import NodeId
from kuberml.core.seam import Clock, Recorder, Transport
from kuberml.exchange import wire
from kuberml.exchange.majority import Majority
from kuberml.exchange.offering import Offering
from kuberml.exchange.withdrawn import Withdrawals
from kuberml.knowledge.card import SignedCard
from kuberml.knowledge.fraud import DOMAIN as FRAUD
from kuberml.knowledge.fraud import SignedFraudProof
from kuberml.knowledge.pack import check_limits
from kuberml.knowledge.signing import check_card, check_signature
from kuberml.knowledge.verdict import SignedVerdict, check_verdict
from kuberml.knowledge.want import Offer
from kuberml.knowledge.withdrawal import SignedWithdrawal, check_withdrawal
from kuberml.vault.board import Board
from kuberml.vault.catalog import Catalog

BOARD_ANSWER_BYTES = wire.ROOM_BYTES
"""Verdicts in one answer, at most. The rest comes when it asks again."""


NAMED = 8
"""Cards in one answer to `cards`: more than one shows already that the name is too short."""


class Watcher(Protocol):
    """Is told of what a hub has accepted, after it is done: for who keeps copies and for who shows what goes on."""

    def announced(self, holder: NodeId, signed: SignedCard, *, is_new: bool) -> None:
        """`holder` has this; is_new: no hub request has named this card here before."""
        ...

    def judged(self, witness: NodeId, signed: SignedVerdict) -> None:
        """A verdict counts."""
        ...

    def withdrawn(self, signed: SignedWithdrawal, cards: int) -> None:
        """So many cards went."""
        ...


class Hub:
    """The services of a hub over a node's Transport."""

    def __init__(
        self,
        transport: Transport,
        clock: Clock,
        catalog: Catalog,
        recorder: Recorder,
        board: Board | None = None,
        watchers: tuple[Watcher, ...] = (),
        words: Withdrawals | None = None,
    ) -> None:
        """Serve, from now on.

        Args:
            transport, clock, recorder: of the hub's node.
            catalog: what is known of cards.
            board: what witnesses said, read once now; None: an empty one in memory. Whoever opened it closes it.
            watchers: who is told of what was accepted.
            words: what authors took back; None: kept in memory. Whoever opened it closes it.
        """
        self._transport, self._clock, self._catalog, self._recorder = transport, clock, catalog, recorder
        self._board = Board() if board is None else board
        self._watchers, self._words = watchers, Withdrawals() if words is None else words
        self._standing = Majority()
        self._offering = Offering(catalog, self._standing.outcomes, self._standing.rank_ppm)
        for signed in self._board.verdicts():
            self._standing.heard(signed.verdict)
        transport.serve("announce", self._announce)
        transport.serve("find", self._find)
        transport.serve("verdict", self._verdict)
        transport.serve("verdicts", self._verdicts)
        transport.serve("fraud", self._fraud)
        transport.serve("withdraw", self._withdraw)
        transport.serve("withdrawn", self._withdrawn)
        transport.serve("cards", self._cards)

    def watch(self, watcher: Watcher) -> None:
        """Tell one more of what is accepted from now on."""
        self._watchers = (*self._watchers, watcher)

    async def _announce(self, asker: NodeId, body: bytes) -> bytes:
        news = wire.read(body, wire.Announcement)
        if news.holder != asker:
            raise RemoteError(f"{asker} announces for {news.holder}: a node announces what it holds itself")
        check_limits(news.signed)
        check_card(news.signed)
        is_new = self._catalog.add(news.signed, asker, keep=news.keep)
        await self._transport.announce(f"cards/{news.signed.card.task}", body)
        for watcher in self._watchers:
            watcher.announced(asker, news.signed, is_new=is_new)
        return b""

    async def _find(self, asker: NodeId, body: bytes) -> bytes:
        answer = self._offering.answer(asker, wire.read(body, wire.Query), self._now_ms)
        self._recorder.record("brokered", asker=asker, offers=[offer.signed.digest for offer in answer.offers])
        return wire.write(answer)

    async def _verdict(self, asker: NodeId, body: bytes) -> bytes:
        verdict = check_verdict(wire.read(body, SignedVerdict))
        tested = self._catalog.card(verdict.verdict.card)
        if tested is None:
            raise RemoteError("a verdict on a card that is not in the catalog")
        if tested.card.author != verdict.verdict.author:
            raise RemoteError(f"a verdict about {verdict.verdict.author[:12]}... on a card by {tested.card.author[:12]}...")
        taken = self._board.put(verdict, self._now_ms)
        for card in taken.evicted:
            self._standing.forget(card)
        if taken.counts:
            self._standing.heard(verdict.verdict)
            for watcher in self._watchers:
                watcher.judged(asker, verdict)
        return b""

    async def _fraud(self, asker: NodeId, body: bytes) -> bytes:
        """Pass an accusation on, as signed. A hub cannot run claims, so it believes nobody: who doubts it runs the claim."""
        accusation = wire.read(body, SignedFraudProof)
        accused = check_card(accusation.proof.accused)
        check_signature(accusation.proof.accuser, FRAUD, accusation.proof.digest.encode(), accusation.signature)
        self._recorder.record("accusation", card=accused.digest, author=accused.card.author, accuser=accusation.proof.accuser)
        await self._transport.announce(f"fraud/{accused.card.task}", body)
        return b""

    async def _verdicts(self, asker: NodeId, body: bytes) -> bytes:
        about = wire.read(body, wire.About)
        found, now_ms = self._board.about(about.cards, about.since_ms), self._now_ms
        verdicts, as_of_ms = _fitting(found, now_ms)
        return wire.write(wire.Board(verdicts, as_of_ms))

    async def _cards(self, asker: NodeId, body: bytes) -> bytes:
        """Cards by the first characters of their digest, as people write them, with who holds them. Terms are on the card."""
        named = wire.read(body, wire.Named)
        found = self._catalog.named(named.start, limit=NAMED)
        return wire.write(wire.Offers(tuple(Offer(signed, holders, 0, 0, 0) for signed, holders in found)))

    async def _withdraw(self, asker: NodeId, body: bytes) -> bytes:
        """Forget what its author takes back, whoever brings the signed word. Saying it again changes nothing."""
        signed = check_withdrawal(wire.read(body, SignedWithdrawal))
        word = signed.withdrawal
        gone = self._catalog.withdraw(word.author, word.slot, version=word.version)
        self._words.put(signed)
        await self._transport.announce(f"withdrawn/{word.task}", body)
        for watcher in self._watchers:
            watcher.withdrawn(signed, gone)
        return b""

    async def _withdrawn(self, asker: NodeId, body: bytes) -> bytes:
        asked = wire.read(body, wire.Since)
        return wire.write(self._words.since(asked.task, asked.era, asked.number))

    @property
    def _now_ms(self) -> int:
        return self._clock.now_ns() // 1_000_000


def _fitting(found: list[tuple[int, SignedVerdict]], now_ms: int) -> tuple[tuple[SignedVerdict, ...], int]:
    """What goes into one answer, and from when on to ask next. If not all does: the oldest, and what came with the next."""
    sizes = [(came_ms, len(canonical.encode(signed))) for came_ms, signed in found]
    if sum(size for _, size in sizes) <= BOARD_ANSWER_BYTES:
        return tuple(signed for _, signed in found), now_ms
    total, oldest = 0, min(came_ms for came_ms, _ in sizes)
    for came_ms, size in sorted(sizes):
        total += size
        if total > BOARD_ANSWER_BYTES:
            until_ms = max(came_ms, oldest + 1)  # always some way on
            break
    return tuple(signed for came_ms, signed in found if came_ms < until_ms), until_ms
