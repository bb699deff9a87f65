"""Drift: whether a packet's classes lie where the model's lie, told from the packets alone.

For each label that both have, the squared distance of the two class means is weighted by h = n m / (n + m):

    Q = sum over labels of h |mean of the packet - mean of the model|^2

If both are samples of the same distributions, E[Q] = C tr S with the scatter S within the classes, which the sums give: G -
sum_c B_c B_c^T / n_c, pooled over both. Q is then near a multiple g of a chi-squared variable with f degrees of freedom,
g = tr(S^2) / tr(S), f = C tr(S)^2 / tr(S^2) (F. E. Satterthwaite, Biometrics 1946), tr(S^2) free of bias as in Z. Bai and
H. Saranadasa, Statistica Sinica 1996. Its tail is taken by E. B. Wilson and M. M. Hilferty (PNAS 1931). No matrix is inverted,
so there may be far more features than samples. Classes do not scatter alike: of the scatter of the packet's own labels and that
of all, the larger counts, so that alarms are rather too few. Only the mean is looked at.
"""

from __future__ import annotations

from math import erfc, sqrt

import msgspec
import numpy as np
import numpy.typing as npt

from kuberml.core.ids import Digest, LabelId
from kuberml.core.jobs import job
from kuberml.core.values import value
from kuberml.knowledge.moments import Statistics

Matrix = npt.NDArray[np.float64]
MIN_DEGREES = 8
"""Samples beyond the labels that the scatter must stand on."""


@value
class Drift(msgspec.Struct, frozen=True):
    """A packet whose classes lie elsewhere than the model's.

    Attributes:
        card, author, slot: of the packet.
        p_value: of a packet as far away as this without drift.
        shift: squared distance of the class means beyond chance, in units of the scatter: 0 none; at 1 a class has moved as far
            as its samples lie apart.
        labels: the label's share of Q, largest first.
    """

    card: Digest
    author: str
    slot: str
    p_value: float
    shift: float
    labels: dict[LabelId, float]


@value
class Moved(msgspec.Struct, frozen=True):
    """The outcome of the test: see `Drift`."""

    p_value: float
    shift: float
    labels: dict[LabelId, float]


def _flops(packet: Statistics, model: Statistics) -> int:
    return 6 * len(packet.gram_dd) ** 2 * (len(packet.labels) + len(model.labels) + 1)


@job(flops=_flops)
def moved(packet: Statistics, model: Statistics) -> Moved | None:
    """Test one packet against the sums of a model that does not contain it. None: nothing can be said."""
    shared = sorted({*packet.labels} & {*model.labels})
    degrees = packet.samples + model.samples - len(packet.labels) - len(model.labels)
    if not shared or packet.dims != model.dims or degrees < MIN_DEGREES:
        return None
    own_kk, all_kk = _scatter(packet), _scatter(model)
    spreads = [_spread((own_kk + all_kk) / degrees, degrees)]
    if (own := packet.samples - len(packet.labels)) >= MIN_DEGREES:
        spreads.append(_spread(own_kk / own, own))  # its labels may scatter more than the others
    trace, square = max(spreads)
    if trace <= 0 or square <= 0:
        return None
    ours_kC, counts_C = _means(packet, shared)
    theirs_kC, others_C = _means(model, shared)
    h_C = counts_C * others_C / (counts_C + others_C)
    q_C = h_C * ((ours_kC - theirs_kC) ** 2).sum(axis=0)
    total, classes = float(q_C.sum()), len(shared)
    shift = max(0.0, total - classes * trace) / float(h_C.sum()) / trace
    order = np.argsort(-q_C, kind="stable")
    parts = {shared[i]: float(q_C[i] / total) if total else 0.0 for i in order}
    return Moved(_tail(total * trace / square, classes * trace**2 / square), shift, parts)


def _spread(scatter_kk: Matrix, degrees: int) -> tuple[float, float]:
    """tr(S) and tr(S^2) of a scatter matrix that stands on so many degrees of freedom, both free of bias."""
    trace, square = float(np.trace(scatter_kk)), float((scatter_kk * scatter_kk).sum())
    return trace, (square - trace**2 / degrees) * degrees**2 / ((degrees + 2) * (degrees - 1))


def _scatter(stats: Statistics) -> Matrix:
    """Scatter within the classes, without the constant, float64 [d - 1, d - 1]: not divided by anything."""
    sums_kC = stats.sums_dC[1:] / stats.sums_unit / np.sqrt(stats.counts_C)
    found: Matrix = stats.gram_dd[1:, 1:] / stats.gram_unit - sums_kC @ sums_kC.T
    return found


def _means(stats: Statistics, labels: list[LabelId]) -> tuple[Matrix, Matrix]:
    at = [stats.labels.index(label) for label in labels]
    counts_C = stats.counts_C[at].astype(np.float64)
    return stats.sums_dC[1:, at] / stats.sums_unit / counts_C, counts_C


def _tail(x: float, degrees: float) -> float:
    """P of a chi-squared variable above x, by Wilson and Hilferty."""
    spread = 2.0 / (9.0 * degrees)
    z = ((x / degrees) ** (1.0 / 3.0) - (1.0 - spread)) / sqrt(spread)
    return 0.5 * erfc(z / sqrt(2.0))
