"""The hub: where nodes meet. It keeps the catalog and the verdict board, and brokers; it never sees data and runs no rounds.

Requests that it serves: `announce` (I hold this), `find` (who serves this want best?), `verdict` (what my test showed),
`verdicts` (what do others say of these cards?), `fraud` (this claim is false, and here is the proof). What is announced or
accused it passes on to who subscribes to `cards/<task>` or `fraud/<task>`.
"""

from __future__ import annotations

from collections.abc import Callable

from kuberml.core.errors import RemoteError
from kuberml.core.ids import Digest, NodeId
from kuberml.core.seam import Clock, Recorder, Transport
from kuberml.exchange import wire
from kuberml.exchange.broker import rank
from kuberml.exchange.standing import Standing
from kuberml.knowledge.card import SignedCard
from kuberml.knowledge.fraud import DOMAIN as FRAUD
from kuberml.knowledge.fraud import SignedFraudProof
from kuberml.knowledge.pack import check_limits
from kuberml.knowledge.signing import check_card, check_signature
from kuberml.knowledge.verdict import SignedVerdict, check_verdict
from kuberml.vault.catalog import Catalog

MAX_WITNESSES = 256
"""Verdicts kept per card; one per witness, the newest."""


class Hub:
    """The services of a hub over a node's Transport."""

    def __init__(
        self,
        transport: Transport,
        clock: Clock,
        catalog: Catalog,
        recorder: Recorder,
        *,
        on_announced: Callable[[SignedCard, NodeId], None] = lambda signed, holder: None,
    ) -> None:
        """Serve. `on_announced` is told of every card that came into the catalog, and of who holds it."""
        self._transport, self._clock, self._catalog, self._recorder = transport, clock, catalog, recorder
        self._on_announced = on_announced
        self._board: dict[Digest, dict[str, tuple[int, SignedVerdict]]] = {}
        self._standing = Standing()
        transport.serve("announce", self._announce)
        transport.serve("find", self._find)
        transport.serve("verdict", self._verdict)
        transport.serve("verdicts", self._verdicts)
        transport.serve("fraud", self._fraud)

    async def _announce(self, asker: NodeId, body: bytes) -> bytes:
        news = wire.read(body, wire.Announcement)
        if news.holder != asker:
            raise RemoteError(f"{asker} announces for {news.holder}: a node announces what it holds itself")
        check_limits(news.signed)
        check_card(news.signed)
        self._catalog.add(news.signed, asker, keep=news.keep)
        self._on_announced(news.signed, asker)
        await self._transport.announce(f"cards/{news.signed.card.task}", body)
        return b""

    async def _find(self, asker: NodeId, body: bytes) -> bytes:
        want = wire.read(body, wire.Query).want
        candidates = self._catalog.candidates(want, self._now_ms)
        others = [(signed, holders) for signed, holders in candidates if holders != (asker,)]
        offers = rank(want, others, self._standing.outcomes, self._standing.rank_ppm)
        self._recorder.record("brokered", asker=asker, offers=[offer.signed.digest for offer in offers])
        return wire.write(wire.Offers(tuple(offers)))

    async def _verdict(self, asker: NodeId, body: bytes) -> bytes:
        verdict = check_verdict(wire.read(body, SignedVerdict))
        tested = self._catalog.card(verdict.verdict.card)
        if tested is None:
            raise RemoteError("a verdict on a card that is not in the catalog")
        if tested.card.author != verdict.verdict.author:
            raise RemoteError(f"a verdict about {verdict.verdict.author[:12]}... on a card by {tested.card.author[:12]}...")
        card = self._board.setdefault(verdict.verdict.card, {})
        if len(card) >= MAX_WITNESSES and verdict.verdict.witness not in card:
            raise RemoteError(f"the board keeps {MAX_WITNESSES} verdicts on a card, no more")
        _, before = card.get(verdict.verdict.witness, (0, verdict))
        if verdict.verdict.at_ms < before.verdict.at_ms:
            raise RemoteError("a verdict older than its witness's last one on this card")
        card[verdict.verdict.witness] = (self._now_ms, verdict)
        self._standing.heard(verdict.verdict)
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
        on_cards = [one for card in about.cards for _, one in sorted(self._board.get(card, {}).items())]
        found = tuple(verdict for came_ms, verdict in on_cards if came_ms >= about.since_ms)
        return wire.write(wire.Board(found, self._now_ms))

    @property
    def _now_ms(self) -> int:
        return self._clock.now_ns() // 1_000_000
