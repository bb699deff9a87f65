"""The broker: which offers serve this want best? Predicted gain per cost, learned from outcomes.

What it predicts with, best first: pooled verdicts of those who tried it; the author's claims on public probes, as far as
the author's word held so far; and how many samples stand behind each label. Predictions only shortlist: the trial decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from kuberml.core.ids import Digest, LabelId, NodeId
from kuberml.knowledge.card import PPM, Card, SignedCard
from kuberml.knowledge.want import Offer, Want

HALF_SAMPLES = 20
"""Samples of a label at which half of what can be learned of it is learned: n / (n + HALF_SAMPLES)."""

PRIOR_COUNT = 8
"""Weight of the claim (or of the rank, where nothing is claimed) against tried samples."""

UNBOUNDED_BYTES = 1 << 20
"""What costs are relative to where a want has no budget of bytes."""

Outcomes = Mapping[LabelId, tuple[int, int]]
"""Per label: right answers and samples, pooled over the verdicts on one card."""


def rank(
    want: Want,
    candidates: Iterable[tuple[SignedCard, tuple[NodeId, ...]]],
    outcomes: Callable[[Digest], Outcomes],
    author_ppm: Callable[[str], int],
) -> list[Offer]:
    """Offers for a want, best first, at most `want.limit`. Ties go to the smaller package, then to the lower digest.

    Args:
        want: the need.
        candidates: cards that may answer it, and who holds them.
        outcomes: what verdicts say of a card.
        author_ppm: how far an author's word held so far, 0 to PPM.
    """
    offers = [
        _offer(want, signed, holders, outcomes(signed.digest), author_ppm(signed.card.author)) for signed, holders in candidates
    ]
    offers = [offer for offer in offers if offer.cost_ppm <= PPM]
    return best_first(offers)[: want.limit]


def best_first(offers: Iterable[Offer]) -> list[Offer]:
    """Offers for one want by gain per cost. Ties go to the smaller package, then to the lower digest."""
    return sorted(offers, key=lambda o: (-_value(o), o.signed.card.size_bytes, o.signed.digest))


def _offer(want: Want, signed: SignedCard, holders: tuple[NodeId, ...], outcomes: Outcomes, author_ppm: int) -> Offer:
    card = signed.card
    weights = want.labels_ppm or dict.fromkeys(card.labels, PPM)
    total = sum(weights.values()) or 1
    shared = sorted(weights.keys() & card.labels.keys())
    gain = sum(weights[label] * _recall_ppm(card, label, outcomes, author_ppm) // total for label in shared)
    return Offer(signed, holders, int(gain), _cost_ppm(want, card), author_ppm)


def _cost_ppm(want: Want, card: Card) -> int:
    """The largest share of any of the want's budgets that this delivery takes; without a budget, of UNBOUNDED_BYTES."""
    size = card.size_bytes
    costs = (
        (size, UNBOUNDED_BYTES if want.budget_bytes is None else want.budget_bytes),
        (size * want.ms_per_mb // 10**6, want.budget_ms),
        (size * want.mj_per_mb // 10**6, want.budget_mj),
    )
    shares = [PPM * cost // max(1, budget) for cost, budget in costs if budget is not None]
    return max(shares) if want.budget_bytes is not None else min(PPM, max(shares))


def _recall_ppm(card: Card, label: LabelId, outcomes: Outcomes, author_ppm: int) -> int:
    claims = [claim.recall_ppm[label] for claim in card.claims if label in claim.recall_ppm]
    prior = (sum(claims) // len(claims) if claims else PPM) * author_ppm // PPM
    correct, count = outcomes.get(label, (0, 0))
    recall = (prior * PRIOR_COUNT + PPM * correct) // (PRIOR_COUNT + count)
    samples = card.labels[label]
    return recall * samples // (samples + HALF_SAMPLES)


def _value(offer: Offer) -> int:
    """Gain per cost, with a floor on the cost: next to nothing must not win by being tiny."""
    return offer.gain_ppm * PPM // (offer.cost_ppm + PPM // 50)
