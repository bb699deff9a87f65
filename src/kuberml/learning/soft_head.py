"""A kernel ridge head on plain inputs, from own samples and teachers' soft labels on a probe.

It needs no extractor and is solved in closed form, so it is cheap enough to be made again for every trial; and unlike a
linear head it copes with a probe that mixes domains. It judges and teaches; what serves is distilled from it.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from kuberml.core.ids import LabelId
from kuberml.core.jobs import job
from kuberml.core.values import value
from kuberml.knowledge.kinds.probe import Probe
from kuberml.knowledge.kinds.soft_labels import SoftLabels
from kuberml.knowledge.threads import one_thread
from kuberml.learning.datasets import samples
from kuberml.learning.pooling import pool
from kuberml.learning.predictor import SHARPNESS, log_softmax
from kuberml.learning.types import Array, DataRef

RIDGE = 0.01
"""Added to the kernel's diagonal, whose entries are 1."""

WIDTH = 0.25
"""Of the kernel, as a share of the median squared distance between supports."""

Matrix = npt.NDArray[np.float64]


@value
class KernelHead(msgspec.Struct, frozen=True, eq=False):
    """x -> sum over supports of exp(-|x - support|^2 / width) times its coefficients.

    Attributes:
        supports_MF: float32 [M, F], flattened inputs.
        coefficients_MC: float32 [M, C].
        width: of the kernel, squared units of an input.
        labels: names of the C classes.
    """

    supports_MF: Array
    coefficients_MC: Array
    width: float
    labels: tuple[LabelId, ...]

    @property
    def flops_per_sample(self) -> int:
        """Distances to all supports, and one product."""
        return 2 * int(self.supports_MF.size + self.coefficients_MC.size)

    def predict(self, x_N: Array) -> Array:
        """Log-softmax of SHARPNESS times the scores, float32 [N, C]."""
        if not len(self.supports_MF):
            return log_softmax(np.zeros((len(x_N), len(self.labels))))
        with one_thread():
            kernel_NM = np.exp(-_distances(_flat(x_N), self.supports_MF) / self.width)
            return log_softmax(SHARPNESS * (kernel_NM @ self.coefficients_MC))


def _solve_flops(labels: Any, own: DataRef | None, probe: Probe, teachers: list[SoftLabels]) -> int:
    m, size = len(probe) + (len(own) if own is not None else 0), int(np.prod(probe.x_N.shape[1:]))
    return 2 * m * m * (size + len(labels)) + m**3 // 3


@job(flops=_solve_flops)
def solve_soft(labels: tuple[LabelId, ...], own: DataRef | None, probe: Probe, teachers: list[SoftLabels]) -> KernelHead:
    """Kernel ridge regression onto one-hot own labels and the teachers' answers, pooled by `learning.pooling`.

    Without `own` the head knows only the labels that a teacher knows.
    """
    known = labels if own is not None else tuple(label for label in labels if any(label in t.labels for t in teachers))
    x_MF, y_MC = [np.zeros((0, int(np.prod(probe.x_N.shape[1:]))), np.float32)], [np.zeros((0, len(known)), np.float32)]
    if own is not None:
        local = samples(own)
        x_MF.append(_flat(local.x_N))
        y_MC.append(np.eye(len(known), dtype=np.float32)[[known.index(local.labels[y]) for y in local.y_N]])
    if teachers:
        answers = pool(teachers, known, probe.inputs())
        seen_N = answers.mask_NC.any(axis=1)
        x_MF.append(_flat(answers.x_N[seen_N]))
        y_MC.append(answers.probs_NC[seen_N])
    return _solve(np.concatenate(x_MF), np.concatenate(y_MC), known)


def _solve(x_MF: Array, y_MC: Array, labels: tuple[LabelId, ...]) -> KernelHead:
    if not len(x_MF):
        return KernelHead(x_MF, y_MC, 1.0, labels)
    with one_thread():
        squared_MM = _distances(x_MF, x_MF)
        width = WIDTH * float(np.median(squared_MM)) or 1.0
        kernel_MM = np.exp(-squared_MM / width)
        kernel_MM[np.diag_indices_from(kernel_MM)] += RIDGE
        coefficients_MC = np.linalg.solve(kernel_MM, y_MC.astype(np.float64)).astype(np.float32)
    return KernelHead(x_MF, coefficients_MC, width, labels)


def _distances(a_NF: Array, b_MF: Array) -> Matrix:
    """Squared distances [N, M], in float64."""
    a, b = a_NF.astype(np.float64), b_MF.astype(np.float64)
    squared_NM: Matrix = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * a @ b.T
    return np.maximum(squared_NM, 0.0)


def _flat(x_N: Array) -> Array:
    return x_N.reshape(len(x_N), -1).astype(np.float32)
