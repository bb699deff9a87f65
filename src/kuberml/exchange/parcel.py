"""Parcels: delivered knowledge on a receiver's desk, the trial of one, and which of them a model may be made of."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from kuberml.core import values
from kuberml.core.ids import Digest, LabelId
from kuberml.exchange.trial import Judgement, Tally
from kuberml.knowledge.card import SignedCard


@dataclass(frozen=True)
class Parcel:
    """Delivered knowledge, opened and read: what it says alone, on held-out data of one's own and on the public probe."""

    signed: SignedCard
    content: Any
    mine: dict[LabelId, Tally]
    proven: dict[LabelId, Tally]

    @property
    def digest(self) -> Digest:
        """Of the card."""
        return self.signed.digest

    @property
    def place(self) -> tuple[str, str]:
        """(author, slot): at most one version of it counts."""
        return self.signed.card.author, self.signed.card.slot


@dataclass(frozen=True)
class Trial:
    """What came of trying one package: the judgement, and the models before and after it would be absorbed.

    `parcel` and `after` are None where there was nothing to try: not delivered, or refused at once.
    """

    signed: SignedCard
    judgement: Judgement
    parcel: Parcel | None = None
    before: Any = None
    after: Any = None

    @property
    def accepted(self) -> bool:
        """Whether it may be absorbed."""
        return self.judgement.accepted

    @property
    def verdict(self) -> str:
        """tested, credit, untested or refused; see `exchange.trial`."""
        return self.judgement.verdict

    @property
    def why(self) -> str:
        """The reason in words."""
        return self.judgement.why


def distinct(parcels: Iterable[Parcel], own: Collection[Digest] = ()) -> list[Parcel]:
    """The parcels that a model may be made of, in an order of their own, so that nobody's data counts twice.

    Of an author's slot only the newest version; each content once, whoever signed it and however it was encoded; and nothing
    that is one's own.

    Args:
        parcels: in any order.
        own: `values.digest` of contents that are counted already.
    """
    newest: dict[tuple[str, str], Parcel] = {}
    for parcel in sorted(parcels, key=lambda one: (one.signed.card.version, one.digest)):
        newest[parcel.place] = parcel
    contents = {values.digest(parcel.content): parcel for _, parcel in sorted(newest.items())}
    return [parcel for name, parcel in sorted(contents.items()) if name not in own]
