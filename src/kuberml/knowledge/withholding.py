"""What may be shown: every packet, and every difference of two versions, stands on a minimum number of samples per label.

A sum over one sample *is* that sample's features, and whoever has two versions can subtract them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kuberml.core.ids import LabelId
from kuberml.knowledge.checks import Fault

MIN_CLASS_COUNT = 5
"""Samples of each label and contributor that published knowledge stands on, at least."""


def publishable(y_N: Sequence[LabelId], minimum: int, published: Mapping[LabelId, int]) -> tuple[list[int], dict[LabelId, int]]:
    """Which samples may be published.

    Args:
        y_N: label of each sample, oldest first.
        minimum: least number of samples per label.
        published: samples per label in the version before; its samples are the oldest.

    Returns:
        Their indices, rising, and for each label that has some left out, how many.
    """
    indices: dict[LabelId, list[int]] = {}
    for i, label in enumerate(y_N):
        indices.setdefault(label, []).append(i)
    kept: list[int] = []
    withheld: dict[LabelId, int] = {}
    for label, all_of in indices.items():
        count = _publishable_count(len(all_of), published.get(label, 0), minimum)
        kept += all_of[:count]
        if count < len(all_of):
            withheld[label] = len(all_of) - count
    return sorted(kept), withheld


def check_counts(counts: Mapping[LabelId, int], minimum: int, fault: Fault) -> None:
    """Check that each label stands on at least `minimum` samples.

    Raises:
        fault: one does not.
    """
    for label, count in counts.items():
        if count < minimum:
            raise fault(f"{count} samples of {label!r} would show single ones: at least {minimum} are needed")


def difference_problem(before: Mapping[LabelId, int], after: Mapping[LabelId, int], minimum: int) -> str | None:
    """What is wrong with two versions' counts: a label that gained or lost fewer than `minimum` samples. None: nothing.

    Whoever has both versions can subtract them, so an increment must be as large as a packet.
    """
    for label in sorted({*before, *after}):
        change = after.get(label, 0) - before.get(label, 0)
        if 0 < abs(change) < minimum:
            return f"{label!r} changed by {change:+d} samples; fewer than {minimum} show when the versions are subtracted"
    return None


def _publishable_count(count: int, before: int, minimum: int) -> int:
    if 0 < abs(count - before) < minimum:  # the difference of the versions would show single samples
        count = before if count > before else before - minimum
    return count if count >= minimum else 0
