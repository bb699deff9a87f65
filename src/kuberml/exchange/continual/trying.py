"""Jobs of the gate: which model a set of packets makes, and what public samples say of it and of a packet.

Legend: N public samples, d features, C labels of the samples.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from kuberml.core.errors import ConfigError
from kuberml.core.ids import LabelId
from kuberml.core.jobs import job
from kuberml.core.values import value
from kuberml.exchange.trial import Change
from kuberml.knowledge.algebra import merge_all, remove
from kuberml.knowledge.kinds.extractor import Extractor
from kuberml.knowledge.kinds.probe import Probe
from kuberml.knowledge.moments import Statistics
from kuberml.knowledge.ridge import Head, solve
from kuberml.learning.extractors import built, features
from kuberml.learning.jobs import solve_flops
from kuberml.learning.types import Array, IntArray

Matrix = npt.NDArray[np.float64]


@value
class Sight(msgspec.Struct, frozen=True, eq=False):
    """Labelled public samples as the extractor sees them: features float32 [N, d], positions in `labels` int64 [N]."""

    z_Nd: Array
    y_N: IntArray
    labels: tuple[LabelId, ...]


@value
class Tried(msgspec.Struct, frozen=True, eq=False):
    """The model of a set: its integers, their head; and what changed on public samples, None without any.

    Attributes:
        sums, head: of the set.
        change: against the model before, *among the labels that it knew*: what new labels take is no forgetting.
        taken_C: of each label's answers, those that are right among the labels known before and now go to a new one.
        right_C, count_C: right answers among all labels, of so many, for each label of the samples.
    """

    sums: Statistics
    head: Head
    change: Change | None
    taken_C: IntArray
    right_C: IntArray
    count_C: IntArray


@job(flops=lambda extractor, probe: built(extractor).flops(probe.x_N.shape[1:]) * len(probe))
def seen(extractor: Extractor, probe: Probe) -> Sight:
    """A labelled probe through the extractor. Raises ConfigError: it has no labels."""
    if probe.y_N is None:
        raise ConfigError("the probe has no labels: nothing can be judged on it")
    return Sight(features(extractor, probe.inputs()), probe.y_N.astype(np.int64), probe.labels)


def _tried_flops(total: Statistics | None, add: list[Statistics], drop: list[Statistics], ridge: float | None, *_: Any) -> int:
    every = [part for part in (total, *add, *drop) if part is not None]
    return solve_flops(every[0], ridge) + sum(part.gram_dd.size for part in every)


@job(flops=_tried_flops)
def tried(
    total: Statistics | None,
    add: list[Statistics],
    drop: list[Statistics],
    ridge: float | None,
    before: Head | None,
    sight: Sight | None,
) -> Tried:
    """The model of `total` with and without some packets.

    Raises:
        ConfigError: the packets are of different features, cannot be removed, overflow 64 bits, or none is left.
    """
    sums = merge_all([part for part in (total, *add) if part is not None])
    for packet in drop:
        sums = remove(sums, packet)
    head = solve(sums, ridge)
    if sight is None:
        none = np.zeros(0, np.int64)
        return Tried(sums, head, None, none, none, none)
    return Tried(sums, head, *judged(before, head, sight))


def judged(before: Head | None, head: Head, sight: Sight) -> tuple[Change | None, IntArray, IntArray, IntArray]:
    """The last four fields of `Tried`."""
    classes = len(sight.labels)
    right_N = answers(head, sight) == sight.y_N
    right_C, count_C = _per_label(sight.y_N[right_N], classes), _per_label(sight.y_N, classes)
    if before is None:
        return None, np.zeros_like(count_C), right_C, count_C
    among_N = answers(head, sight, before.labels) == sight.y_N
    return changed(before, head, sight), _per_label(sight.y_N[among_N & ~right_N], classes), right_C, count_C


def answers(head: Head, sight: Sight, among: tuple[LabelId, ...] | None = None) -> IntArray:
    """Which of the samples' labels a head answers, int64 [N]; -1: one that they do not have. `among`: only these labels."""
    scores_NC = head.scores(sight.z_Nd)
    if among is not None:
        scores_NC[:, [label not in among for label in head.labels]] = -np.inf
    if not np.isfinite(scores_NC).any():
        return np.full(len(scores_NC), -1, np.int64)
    place = {name: position for position, name in enumerate(sight.labels)}
    named_C = np.array([place.get(name, -1) for name in head.labels], np.int64)
    found: IntArray = named_C[scores_NC.argmax(axis=1)]
    return found


def changed(before: Head, after: Head, sight: Sight) -> Change:
    """Answers of two heads on the samples of labels that the first knows, both choosing among those."""
    known = [sight.labels.index(label) for label in before.labels if label in sight.labels]
    mine_N = np.isin(sight.y_N, known)
    y_N, classes = sight.y_N[mine_N], len(sight.labels)
    was_N, now_N = ((answers(head, sight, before.labels) == sight.y_N)[mine_N] for head in (before, after))
    return Change(sight.labels, _per_label(y_N[~was_N & now_N], classes), _per_label(y_N[was_N & ~now_N], classes),
                  _per_label(y_N, classes))  # fmt: skip


def reference(sight: Sight | None, total: Statistics | None) -> tuple[tuple[LabelId, ...], Matrix]:
    """Where labels lie: means of public samples where there are any, else of the model; names, float64 [C, d]."""
    found: dict[LabelId, Matrix] = {}
    if total is not None:
        means_Cd = (total.sums_dC[1:] / total.sums_unit / total.counts_C).T
        found = dict(zip(total.labels, means_Cd, strict=True))
    if sight is not None:
        for position, label in enumerate(sight.labels):
            found[label] = sight.z_Nd[sight.y_N == position].mean(axis=0, dtype=np.float64)
    labels = tuple(sorted(found))
    return labels, np.array([found[label] for label in labels])


@job(flops=lambda packet, labels, means_Cd: 4 * len(packet.labels) * means_Cd.size)
def resemblances(packet: Statistics, labels: tuple[LabelId, ...], means_Cd: Matrix) -> dict[LabelId, tuple[LabelId, float]]:
    """For each of a packet's labels that is known: the other label that its mean comes nearest to, and how near.

    How near: squared distance to the other label's mean over that to its own: 1 is between them, 0 is the other one's. A packet
    from another domain is far from all means, near 1; swapped labels come near 0.
    """
    found: dict[LabelId, tuple[LabelId, float]] = {}
    if len(labels) < 2:
        return found
    for position, label in enumerate(packet.labels):
        if label not in labels:
            continue
        mean_d = packet.sums_dC[1:, position] / packet.sums_unit / packet.counts_C[position]
        away_C = ((means_Cd - mean_d) ** 2).sum(axis=1)
        own = labels.index(label)
        others_C = np.where(np.arange(len(labels)) == own, np.inf, away_C)
        nearest = int(np.argmin(others_C))
        found[label] = (labels[nearest], float(others_C[nearest] / away_C[own]) if away_C[own] > 0 else float("inf"))
    return found


def _per_label(positions: IntArray, classes: int) -> IntArray:
    return np.bincount(positions, minlength=classes).astype(np.int64)
