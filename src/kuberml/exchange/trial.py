"""The trial: is this knowledge kept? A pure function of evidence, judged per wanted label.

    tested     for a label I hold: my own held-out data got better (one-sided exact test; the error budget is spent over re-use)
    credit     for a label I lack: witnesses that hold it say so, weighted by trust, or the claim held on a public probe
    untested   no evidence either way: kept apart, not used
    refused    evidence against it, or my own labels would get worse: leaves no trace in the model

Three sorts of evidence go in: the change on my own held-out data if it were absorbed (`Change`), and, per label, how well
the knowledge answers *alone*: on my data (`mine`) and on other holders' (`credit`).
"""

from __future__ import annotations

import msgspec
import numpy as np

from kuberml.core.ids import LabelId
from kuberml.core.ranges import Share, Whole
from kuberml.core.values import value
from kuberml.exchange.statistics import shows_failure, shows_recall, sign_test, spent
from kuberml.learning.types import IntArray


@value
class Change(msgspec.Struct, frozen=True):
    """Answers on held-out data before and after absorbing, paired by sample; int64 [C] each.

    Attributes:
        labels: names; better_C: wrong before, right after; worse_C: right before, wrong after; count_C: samples.
    """

    labels: tuple[LabelId, ...]
    better_C: IntArray
    worse_C: IntArray
    count_C: IntArray


class Tally(msgspec.Struct, frozen=True):
    """Right answers out of so many; weighted sums of witnesses are rounded down."""

    correct: int
    count: int

    @property
    def recall(self) -> float:
        """Share of right answers; NaN without samples."""
        return self.correct / self.count if self.count else float("nan")


def added(one: dict[LabelId, Tally], two: dict[LabelId, Tally]) -> dict[LabelId, Tally]:
    """Two sorts of evidence about the same labels as one."""
    none = Tally(0, 0)
    pairs = {label: (one.get(label, none), two.get(label, none)) for label in sorted({*one, *two})}
    return {label: Tally(a.correct + b.correct, a.count + b.count) for label, (a, b) in pairs.items()}


class TrialPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How strict a trial is."""

    alpha: Share = 0.1  # error allowed over all trials on the same held-out data
    guard: Share = 0.125  # own labels count as worse below this p-value ...
    tolerance: Share = 0.1  # ... or when more than this share of own held-out answers is lost
    bar: Share = 0.6  # recall that knowledge must show alone, among its own labels
    min_samples: Whole = 4  # fewer are no evidence
    doubt: Share = 1.0  # less than the bar is a failure where so few right answers have at most this chance
    majority: bool = False  # while my own tests say nothing at all, witnesses count by the majority: for those with few data


class Judgement(msgspec.Struct, frozen=True):
    """The outcome: `verdict` over all, one per wanted label, and the reason in words."""

    verdict: str
    labels: dict[LabelId, str]
    why: str

    @property
    def accepted(self) -> bool:
        """Whether it may be absorbed."""
        return self.verdict in ("tested", "credit")


def judge(
    change: Change,
    wanted: set[LabelId],
    offered: set[LabelId],
    mine: dict[LabelId, Tally],
    credit: dict[LabelId, Tally],
    plan: TrialPlan,
    uses: int = 1,
) -> Judgement:
    """Judge one piece of knowledge for one receiver.

    Args:
        change: on the receiver's held-out data, before against after.
        wanted, offered: labels wanted, and labels that the knowledge is about.
        mine: how it answers alone on the receiver's held-out data, for labels both have.
        credit: the same on other holders' data, pooled by rank, or on a public probe.
        plan: how strict.
        uses: how many trials used this held-out data so far, this one included; from 1.
    """
    if why := harm(change, plan):
        return Judgement("refused", dict.fromkeys(wanted & offered, "refused"), why)
    if why := _disproved(mine, plan):
        return Judgement("refused", dict.fromkeys(wanted & offered, "refused"), why)
    alpha = spent(plan.alpha, uses)
    held = {name for name, count in zip(change.labels, change.count_C, strict=True) if count}
    labels = {
        name: _tested(change, name, mine, plan, alpha) if name in held else _on_credit(credit.get(name), plan)
        for name in sorted(wanted & offered)
    }
    for verdict, why in (
        ("refused", "other holders or the public probe find it wrong about {}"),
        ("credit", "other holders or the public probe confirm {}"),
        ("tested", "my own held-out data confirm {}"),
    ):
        names = [name for name, one in labels.items() if one == verdict]
        if names:
            return Judgement(verdict, labels, why.format(", ".join(names)))
    return Judgement("untested", labels, "no evidence for any wanted label yet")


def harm(change: Change, plan: TrialPlan) -> str:
    """Why one's own labels would get worse; "" if they would not as far as the held-out data can tell."""
    better, worse, count = (int(np.sum(x)) for x in (change.better_C, change.worse_C, change.count_C))
    lost = worse - better
    if lost > 0 and (sign_test(worse, better) < plan.guard or lost > plan.tolerance * count):
        return f"my own labels would get worse: {worse} answers lost and {better} won of {count}"
    return ""


def _disproved(mine: dict[LabelId, Tally], plan: TrialPlan) -> str:
    tally = Tally(sum(t.correct for t in mine.values()), sum(t.count for t in mine.values()))
    if tally.count >= plan.min_samples and shows_failure(tally.correct, tally.count, plan.bar, plan.doubt):
        return f"alone it answers {tally.correct} of {tally.count} of my own samples of {', '.join(sorted(mine))}"
    return ""


def _tested(change: Change, name: LabelId, mine: dict[LabelId, Tally], plan: TrialPlan, alpha: float) -> str:
    place = change.labels.index(name)
    better, worse = int(change.better_C[place]), int(change.worse_C[place])
    if sign_test(better, worse) <= alpha:
        return "tested"
    # Nothing left to win where every answer is right already: then standing alone against my data is the test.
    tally = mine.get(name)
    if tally and worse <= better and shows_recall(tally.correct, tally.count, plan.bar, alpha):
        return "tested"
    return "untested"


def _on_credit(tally: Tally | None, plan: TrialPlan) -> str:
    if tally is None or tally.count < plan.min_samples:
        return "untested"
    return "credit" if tally.recall >= plan.bar else "refused"
