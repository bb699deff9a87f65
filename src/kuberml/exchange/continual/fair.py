"""The class-balanced head of the same sums: what the gate judges on.

A ridge head prefers labels of which there are many samples. While edges meet labels in different orders, some labels have a
hundred times the samples of others for a time, and their answers come and go although nobody lied and nothing was lost: so
it is for the model that sees everything at once. The discriminant with equal priors does not know how many samples there are,

    score of c = z' S^-1 m_c - m_c' S^-1 m_c / 2,     S = (G - sum_c B_c B_c' / n_c + ridge I) / n,     m_c = B_c / n_c

(R. A. Fisher 1936; with shrinkage, J. H. Friedman 1989), and is made of the same integers.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from kuberml.core.jobs import job
from kuberml.core.values import value
from kuberml.exchange.continual.trying import Sight, answers, per_label
from kuberml.exchange.trial import Change
from kuberml.knowledge.moments import Statistics
from kuberml.knowledge.ridge import Head
from kuberml.knowledge.threads import one_thread
from kuberml.learning.types import IntArray


@value
class Judged(msgspec.Struct, frozen=True, eq=False):
    """What the balanced head of a candidate shows on labelled public samples, C labels of the samples.

    Attributes:
        fair: the head.
        change: against the model before, *among the labels that it knew*: what new labels take is no forgetting. None without
            samples or a model before.
        taken_C: right answers among the labels known before that now go to a new one.
        right_C: right answers among all labels.
    """

    fair: Head
    change: Change | None
    taken_C: IntArray
    right_C: IntArray


def _flops(sums: Statistics, ridge: float, *_: Any) -> int:
    d, classes = len(sums.gram_dd), len(sums.labels)
    return 2 * d**3 // 3 + 4 * d * d * classes


@job(flops=_flops)
def judged(sums: Statistics, ridge: float, before: Head | None, sight: Sight | None) -> Judged:
    """The balanced head of some sums, and what changed against the balanced head before."""
    fair = balanced(sums, ridge)
    if sight is None:
        none = np.zeros(0, np.int64)
        return Judged(fair, None, none, none)
    classes = len(sight.labels)
    right_N = answers(fair, sight) == sight.y_N
    right_C = per_label(sight.y_N[right_N], classes)
    if before is None:
        return Judged(fair, None, np.zeros_like(right_C), right_C)
    known = [sight.labels.index(label) for label in before.labels if label in sight.labels]
    mine_N = np.isin(sight.y_N, known)
    was_N, now_N = ((answers(head, sight, before.labels) == sight.y_N) & mine_N for head in (before, fair))
    change = Change(
        sight.labels, *(per_label(sight.y_N[some_N], classes) for some_N in (~was_N & now_N, was_N & ~now_N, mine_N))
    )
    return Judged(fair, change, per_label(sight.y_N[now_N & ~right_N], classes), right_C)


def balanced(sums: Statistics, ridge: float) -> Head:
    """The discriminant with equal priors; costs d^3. Equal integers give an equal head on one machine."""
    means_kC = sums.sums_dC[1:] / sums.sums_unit / sums.counts_C
    root_C = np.sqrt(sums.counts_C)
    with one_thread():
        scatter_kk = sums.gram_dd[1:, 1:] / sums.gram_unit - (means_kC * root_C) @ (means_kC * root_C).T
        scatter_kk[np.diag_indices_from(scatter_kk)] += ridge
        weights_kC = np.linalg.solve(scatter_kk / sums.samples, means_kC)
    weights_dC = np.concatenate([-(means_kC * weights_kC).sum(axis=0, keepdims=True) / 2, weights_kC])
    return Head(weights_dC, sums.labels, float(ridge), sums.basis, sums.step_log2, sums.clip)
