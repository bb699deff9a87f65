"""The gate: what may change the served model. Pure functions of evidence.

An update is judged by what it takes from *protected* labels among the labels that the model knew before. That is the fair
comparison when classes are added: training on everything at once, too, answers an old label less often once there are more to
choose from, and is not to be blamed for it. An exact merge is the joint model of all that it is made of, so what it loses among
known labels is the gap to what was served. And it is judged on the class-balanced head of the sums (`fair`): that a label has
many samples for a while takes answers from others, in the joint model too, and says nothing against anybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from kuberml.core.ids import LabelId
from kuberml.exchange.continual.fair import Judged
from kuberml.exchange.continual.history import Entry
from kuberml.exchange.continual.rules import Rules
from kuberml.exchange.statistics import sign_test
from kuberml.exchange.trial import Change
from kuberml.knowledge.card import PPM
from kuberml.knowledge.verdict import Pooled
from kuberml.learning.types import IntArray

ABSORBED = "absorbed"
"""How the reason of a version begins that only took something in."""

Resemblances = Mapping[LabelId, tuple[LabelId, float]]


def lie(found: Resemblances, rules: Rules) -> str:
    """Why a packet lies about its labels; "" if nothing says so. Twins that lie close together are not told apart."""
    for label, (other, ratio) in found.items():
        if ratio < rules.resembles:
            return f"its {label!r} are {other!r}: their mean lies at {ratio:.0%} of the way from that to {label!r}"
    return ""


def harm(change: Change | None, taken_C: IntArray, rules: Rules) -> str:
    """Why an update takes too much from a protected label; "" if it does not, as far as the samples can tell.

    Args:
        change: among the labels that were known before; None: nothing was served, or there are no samples.
        taken_C: right answers that go to new labels instead.
        rules: `bound` for the first, `taken` for the second.
    """
    if change is None:
        return ""
    for place, label in enumerate(change.labels):
        better, worse, count = (int(part[place]) for part in (change.better_C, change.worse_C, change.count_C))
        if _is_protected(label, rules) and _lost(better, worse, count, rules):
            return f"{label!r} would lose {worse - better} of {count} answers on the probe: more than {rules.bound:.0%}"
        if _is_protected(label, rules) and count >= rules.min_samples and taken_C[place] > rules.taken * count:
            return f"new labels would take {taken_C[place]} of {count} answers of {label!r}: more than {rules.taken:.0%}"
    return ""


def gap(change: Change, rules: Rules) -> str:
    """Why a learned candidate may not take the place of the exact head, which is the joint model; "" if it may."""
    better, worse, count = (int(part.sum()) for part in (change.better_C, change.worse_C, change.count_C))
    if better < worse:
        return f"on the whole it lies {worse - better} of {count} answers on the probe behind the joint model"
    return harm(change, np.zeros_like(change.count_C), rules)


def creeping(judged: Judged, history: Sequence[Entry], rules: Rules) -> str:
    """Why small losses have become a large one: against the best that a label was among the same labels.

    Only since something was removed or rolled back: what went with it does not have to come back.
    """
    if judged.change is None:
        return ""
    counts, best = judged.change.count_C, _best(history, judged.fair.labels)
    for place, label in enumerate(judged.change.labels):
        count = int(counts[place])
        lost = best.get(label, 0.0) * count - int(judged.right_C[place])
        if _is_protected(label, rules) and count and lost >= max(rules.min_samples, rules.creep * count):
            return f"{label!r} would have lost {lost:.0f} of {count} answers on the probe, little by little"
    return ""


def _best(history: Sequence[Entry], labels: tuple[LabelId, ...]) -> dict[LabelId, float]:
    best: dict[LabelId, float] = {}
    for entry in reversed(history):
        if entry.labels == labels:
            best |= {label: max(share, best.get(label, 0.0)) for label, share in entry.fair.items()}
        if not entry.why.startswith(ABSORBED):
            break
    return best


def testimony(pooled: Mapping[LabelId, Pooled], witnesses: int, rules: Rules) -> str:
    """Why a served model must go, by the word of edges that tested it against the one before; "" if it may stay."""
    if witnesses < rules.witnesses:
        return ""
    for label, one in sorted(pooled.items()):
        count = one.compared_ppm // PPM
        lost = (one.before_ppm - one.correct_ppm) // PPM
        if _is_protected(label, rules) and _lost(0, lost, count, rules):
            return f"{witnesses} edges say that {label!r} lost {lost} of {count} answers: more than {rules.bound:.0%}"
    return ""


def recall(labels: tuple[LabelId, ...], right_C: IntArray, count_C: IntArray) -> dict[LabelId, float]:
    """Share of right answers of each label that has samples."""
    return {label: float(r / n) for label, r, n in zip(labels, right_C, count_C, strict=True) if n}


def _is_protected(label: LabelId, rules: Rules) -> bool:
    return not rules.protected or label in rules.protected


def _lost(better: int, worse: int, count: int, rules: Rules) -> bool:
    lost = worse - better
    return count >= rules.min_samples and lost > rules.bound * count and sign_test(worse, better) < rules.guard
