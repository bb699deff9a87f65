"""Jobs of the gate: which model a set of packets makes, and what public samples say of it and of a packet.

Legend: N public samples, d features, C labels of the samples.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from kuberml.core.errors import ConfigError
from kuberml.core.ids import Digest, LabelId
from kuberml.core.jobs import job
from kuberml.core.values import value
from kuberml.knowledge.algebra import merge_all, remove
from kuberml.knowledge.card import decode_card
from kuberml.knowledge.kinds.extractor import Extractor
from kuberml.knowledge.kinds.probe import Probe
from kuberml.knowledge.kinds.statistics import reopened
from kuberml.knowledge.moments import Statistics
from kuberml.knowledge.ridge import Head, solve
from kuberml.learning.extractors import built, features
from kuberml.learning.types import Array, IntArray

Matrix = npt.NDArray[np.float64]
DEVIATIONS = 5.0
"""Standard deviations: labels that overlap, such as pullovers and shirts, are not told apart by a few samples."""


@value
class Sealed(msgspec.Struct, frozen=True):
    """A packet as it lies in the store: the encoded card, and its blob, which has the digest that the card names."""

    card: bytes
    blob: bytes

    def open(self) -> Statistics:
        """Its sums. Raises RemoteError: it is not a single packet."""
        return reopened(decode_card(self.card).card, self.blob)


Part = Statistics | Sealed


@value
class Sight(msgspec.Struct, frozen=True, eq=False):
    """Labelled public samples as the extractor sees them: features float32 [N, d], positions in `labels` int64 [N]."""

    z_Nd: Array
    y_N: IntArray
    labels: tuple[LabelId, ...]


@value
class Tried(msgspec.Struct, frozen=True, eq=False):
    """The model of a set: its integers, their head; and how that answers public samples, empty without any.

    Attributes:
        sums, digest, head: of the set.
        right_C, count_C: right answers, of so many, for each label of the samples.
    """

    sums: Statistics
    digest: Digest
    head: Head
    right_C: IntArray
    count_C: IntArray


@job(flops=lambda extractor, probe: built(extractor).flops(probe.x_N.shape[1:]) * len(probe))
def seen(extractor: Extractor, probe: Probe) -> Sight:
    """A labelled probe through the extractor. Raises ConfigError: it has no labels."""
    if probe.y_N is None:
        raise ConfigError("the probe has no labels: nothing can be judged on it")
    return Sight(features(extractor, probe.inputs()), probe.y_N.astype(np.int64), probe.labels)


def _tried_flops(d: int, total: Statistics | None, add: list[Part], drop: list[Part], ridge: float | None, *_: Any) -> int:
    solving = 2 * d**3 // 3 + (9 * d**3 if ridge is None else 0)
    return solving + d * d * (len(add) + len(drop))


@job(flops=_tried_flops)
def tried(
    d: int,
    total: Statistics | None,
    add: list[Part],
    drop: list[Part],
    ridge: float | None,
    sight: Sight | None,
) -> Tried:
    """The model of `total` with and without some packets of d features, the constant included.

    Raises:
        ConfigError: the packets are of different features, cannot be removed, overflow 64 bits, or none is left.
    """
    sums = merge_all([_opened(part) for part in (total, *add) if part is not None])
    for packet in drop:
        sums = remove(sums, _opened(packet))
    head = solve(sums, ridge)
    if sight is None:
        none = np.zeros(0, np.int64)
        return Tried(sums, sums.digest, head, none, none)
    classes = len(sight.labels)
    right_N = answers(head, sight) == sight.y_N
    return Tried(sums, sums.digest, head, per_label(sight.y_N[right_N], classes), per_label(sight.y_N, classes))


def _opened(part: Part) -> Statistics:
    return part.open() if isinstance(part, Sealed) else part


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


@value
class Places(msgspec.Struct, frozen=True, eq=False):
    """Where labels lie: C names, their means float64 [C, d], and how far chance has moved each (squared distance) [C]."""

    labels: tuple[LabelId, ...]
    means_Cd: Matrix
    noise_C: Matrix


def places(sight: Sight | None, total: Statistics | None) -> Places:
    """Of public samples where there are any, else of the model."""
    found: dict[LabelId, tuple[Matrix, float]] = {}
    if total is not None:
        found = _places_of(total)
    if sight is not None:
        for position, label in enumerate(sight.labels):
            z_Nd = sight.z_Nd[sight.y_N == position].astype(np.float64)
            found[label] = z_Nd.mean(axis=0), float(z_Nd.var(axis=0).sum()) / max(1, len(z_Nd) - 1)
    labels = tuple(sorted(found))
    return Places(labels, np.array([found[label][0] for label in labels]), np.array([found[label][1] for label in labels]))


@job(flops=lambda packet, where: 4 * len(packet.labels) * where.means_Cd.size + packet.gram_dd.size)
def resemblances(packet: Statistics, where: Places) -> dict[LabelId, tuple[LabelId, float]]:
    """For each of a packet's labels that is known: the other label that its mean comes nearest to, and how near.

    How near: squared distance to the other label's mean, beyond chance, over the smaller of two: the distance to its own,
    and the distance of the two labels. Swapped labels come near 0; a packet from another domain is far from all means, near 1.
    """
    found: dict[LabelId, tuple[LabelId, float]] = {}
    known, labels, scatter_kk = _places_of(packet), where.labels, _within(packet)
    for label in (label for label in packet.labels if label in labels and len(labels) > 1):
        mean_d, noise = known[label]
        own = labels.index(label)
        away_C = np.maximum(((where.means_Cd - mean_d) ** 2).sum(axis=1) - where.noise_C - noise, 0.0)
        between_Cd = where.means_Cd - where.means_Cd[own]
        length_C = (between_Cd**2).sum(axis=1)
        scale_C = np.minimum(away_C[own], length_C)
        along_C = between_Cd @ (mean_d - where.means_Cd[own])
        chance_C = np.sqrt(((between_Cd @ scatter_kk) * between_Cd).sum(axis=1) / int(packet.counts[label]))
        is_told_C = (scale_C > 0) & (along_C > DEVIATIONS * chance_C) & (np.arange(len(labels)) != own)
        ratio_C = np.divide(away_C, scale_C, out=np.full(len(labels), np.inf), where=is_told_C)
        nearest = int(np.argmin(ratio_C))
        found[label] = (labels[nearest], float(ratio_C[nearest]))
    return found


def _within(sums: Statistics) -> Matrix:
    """Scatter within the classes, a sample: float64 [d - 1, d - 1]."""
    sums_kC = sums.sums_dC[1:] / sums.sums_unit / np.sqrt(sums.counts_C)
    scatter_kk: Matrix = sums.gram_dd[1:, 1:] / sums.gram_unit - sums_kC @ sums_kC.T
    return scatter_kk / max(1, sums.samples - len(sums.labels))


def _places_of(sums: Statistics) -> dict[LabelId, tuple[Matrix, float]]:
    """Means of sums and how far chance moves them, with the scatter within all classes for each."""
    means_Ck = (sums.sums_dC[1:] / sums.sums_unit / sums.counts_C).T
    squares = float(np.trace(sums.gram_dd)) / sums.gram_unit - sums.samples
    between = float((sums.counts_C * (means_Ck**2).sum(axis=1)).sum())
    spread = (squares - between) / max(1, sums.samples - len(sums.labels))
    return {label: (means_Ck[i], spread / int(sums.counts_C[i])) for i, label in enumerate(sums.labels)}


def per_label(y_N: IntArray, classes: int) -> IntArray:
    """How many of each label: int64 [C]."""
    return np.bincount(y_N, minlength=classes).astype(np.int64)
