"""Does this card answer that want? The one law; the catalog's SQL only narrows down what is asked."""

from __future__ import annotations

from collections.abc import Iterator

from kuberml.knowledge.card import Card, Terms
from kuberml.knowledge.terms import allowed
from kuberml.knowledge.want import Want

_NO_TERMS = Terms()


def why_not(want: Want, card: Card, *, now_ms: int) -> str | None:
    """Why a card does not answer a want, or None if it may.

    Whether it is worth its cost is the broker's question (a card over the budget may be delivered in part), and which
    samples of a probe soft labels cover is known only inside their blob.

    Args:
        want: what is asked; what it leaves empty restricts nothing.
        card: one offer of knowledge. One with no basis stands alone and suits every basis.
        now_ms: the time at which its terms are judged, by the clock of `Terms.expires_at_ms`.
    """
    return next(_objections(want, card, now_ms), None)


def _objections(want: Want, card: Card, now_ms: int) -> Iterator[str]:
    if card.task != want.task:
        yield f"it is about {card.task!r}"
    if want.kinds and card.kind not in want.kinds:
        yield f"{card.kind!r} is not a kind that the receiver can use"
    if want.probe is not None and card.basis != want.probe:
        yield "it is not relative to the wanted probe"
    if want.bases and card.basis is not None and card.basis not in (*want.bases, want.probe):
        yield "it is relative to a basis that the receiver does not have"
    if card.learned_at_ms <= want.newer_than_ms > 0:  # virtual time begins at 0, where the first cards are learned
        yield "it is not newer than what the receiver has"
    if want.labels_ppm and not any(card.labels.get(label, 0) > 0 for label in want.labels_ppm):
        yield "it knows none of the wanted labels"
    if card.terms != _NO_TERMS:
        licences = want.licences or None
        forbidden = allowed(card.terms, purpose=want.purpose, region=want.region, now_ms=now_ms, licences=licences)
        if forbidden is not None:
            yield forbidden
