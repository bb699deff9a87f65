"""The gate: what may change the served model. Pure functions of evidence.

An update is judged by what it takes from *protected* labels among the labels that the model knew before. That is the fair
comparison when classes are added: training on everything at once, too, answers an old label less often once there are more to
choose from, and is not to be blamed for it. An exact merge is the joint model of all that it is made of, so what it loses among
known labels is the gap to what was served.
"""

from __future__ import annotations

from collections.abc import Mapping

from kuberml.core.ids import LabelId
from kuberml.exchange.continual.rules import Rules
from kuberml.exchange.statistics import sign_test
from kuberml.exchange.trial import Change
from kuberml.knowledge.card import PPM
from kuberml.knowledge.verdict import Pooled
from kuberml.learning.types import IntArray

Resemblances = Mapping[LabelId, tuple[LabelId, float]]


def lie(found: Resemblances, rules: Rules) -> str:
    """Why a packet lies about its labels; "" if nothing says so. Twins that lie close together are not told apart."""
    for label, (other, ratio) in found.items():
        if ratio < rules.resembles:
            return f"its {label!r} are {other!r}: their mean lies {ratio:.2f} times as far from that as from {label!r}"
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
