"""What a receiver asks for, and what it is offered."""

from __future__ import annotations

import msgspec

from kuberml.core.ids import Digest, LabelId, NodeId
from kuberml.knowledge.card import SignedCard


class Want(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A need. It is *about* labels with weights, or sample ids of a probe; the rest limits what may answer it.

    It travels in canonical form, so it holds no floats: weights are parts per million.
    """

    task: str
    labels_ppm: dict[LabelId, int] = {}  # how much each label matters; {} = any
    probe: Digest | None = None  # soft labels on this probe ...
    sample_ids: tuple[int, ...] = ()  # ... for these samples; () = all of it
    kinds: tuple[str, ...] = ()  # kinds that the receiver can use; () = any
    bases: tuple[Digest, ...] = ()  # extractors, base models or probes that it has; () = any
    purpose: str = ""  # what it is for; a card's terms may forbid it
    licences: tuple[str, ...] = ()  # those that the receiver accepts; () = any
    region: str = ""  # where the receiver is; a card's terms may forbid it
    budget_bytes: int | None = None
    budget_ms: int | None = None
    budget_mj: int | None = None  # millijoules
    ms_per_mb: int = 0  # what a megabyte (10^6 bytes) costs this receiver in time ...
    mj_per_mb: int = 0  # ... and in energy
    limit: int = 32  # offers at most
    newer_than_ms: int = 0  # learned after this
    standing: bool = False  # a subscription: answered now and whenever something new fits


class Offer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A card, where to get it, and what it is predicted to bring *this* want."""

    signed: SignedCard
    holders: tuple[NodeId, ...]
    gain_ppm: int  # predicted rise of the want's weighted accuracy
    cost_ppm: int  # bytes, time and energy relative to the budget
    rank_ppm: int  # the author's standing: how far its claims held so far


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
