"""How packages come to a node: the card is checked before a byte is moved; bytes are delivered, opened, and held for others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from kuberml.core.errors import KuberError, RemoteError, Unreachable
from kuberml.core.ids import NodeId
from kuberml.exchange.delivery import Delivered, Delivery
from kuberml.exchange.delivery.progress import Watch
from kuberml.exchange.oneself import Oneself
from kuberml.exchange.place import OverBudget, Place
from kuberml.knowledge.card import Knowledge, SignedCard, encode_card
from kuberml.knowledge.pack import check_limits, open_value
from kuberml.knowledge.signing import check_card
from kuberml.knowledge.terms import allowed
from kuberml.knowledge.want import Offer

T = TypeVar("T")
OPEN_BYTES = 1 << 30
"""Of a package that is opened, which takes some times its size of memory. Larger ones can be delivered."""


class Receiving(Oneself):
    """The part of a `Node` that takes packages in: an offer comes to be a checked value, or leaves no trace."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.delivery = Delivery(place.transport, place.store, on_bytes=self._talk.received)

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
            # What was here already is right as a whole; whether its pieces are what this card says, nobody has looked yet.
            content = await self.beside(lambda: open_value(knowledge, verified=not came.found))
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

    def hold(self, knowledge: Knowledge) -> None:
        """Keep a package in the store, so that others can read it here."""
        for blob in knowledge.blobs:
            self.place.store.put(blob)
        self.place.store.put_card(knowledge.signed.digest, encode_card(knowledge.signed))

    def forbidden(self, signed: SignedCard) -> str:
        """Why a card's terms do not allow its use here and now; "" if they do."""
        place = self.place
        why = allowed(signed.card.terms, purpose=place.purpose, region=place.region, now_ms=self.now_ms,
                      licences=place.licences or None)  # fmt: skip
        return f"its terms do not allow it here: {why}" if why is not None else ""

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

    def _watch(self, signed: SignedCard) -> Watch | None:
        return None if self.place.watch is None else self.place.watch(signed.card)

    def _trustworthy(self, signed: SignedCard) -> bool:
        """Whether a card that was offered is its author's and may be used here; else why not is recorded."""
        try:
            why = self.forbidden(check_card(signed))
        except KuberError as error:
            why = str(error)
        if why:
            self.record("ignored", card=signed.digest, why=why)
        return not why
