"""A ridge head on plain inputs, from own samples and teachers' soft labels on a probe."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from kuberml.core.ids import LabelId
from kuberml.core.jobs import job
from kuberml.core.values import value
from kuberml.knowledge.kinds.probe import Probe
from kuberml.knowledge.kinds.soft_labels import SoftLabels
from kuberml.learning.datasets import samples
from kuberml.learning.pooling import pool
from kuberml.learning.types import Array, DataRef

RIDGE_SHARE = 0.02
"""Ridge strength as a share of the mean squared length of an input: next to scale-free."""


@value
class PlainHead(msgspec.Struct, frozen=True, eq=False):
    """x -> x W + b on flattened inputs.

    Attributes:
        weights_dC: float32 [1 + features, C], the bias first.
        labels: names of the C classes.
    """

    weights_dC: Array
    labels: tuple[LabelId, ...]

    @property
    def flops_per_sample(self) -> int:
        """One product."""
        return 2 * int(self.weights_dC.size)

    def predict(self, x_N: Array) -> Array:
        """Scores float32 [N, C]; the largest is the answer."""
        scores_NC: Array = _flat(x_N) @ self.weights_dC
        return scores_NC


def _solve_flops(labels: Any, own: DataRef | None, probe: Probe, teachers: list[SoftLabels]) -> int:
    n, d = len(probe) + (len(own) if own is not None else 0), int(np.prod(probe.x_N.shape[1:])) + 1
    return 2 * n * d * (d + len(labels)) + d**3 // 3


@job(flops=_solve_flops)
def solve_soft(labels: tuple[LabelId, ...], own: DataRef | None, probe: Probe, teachers: list[SoftLabels]) -> PlainHead:
    """Ridge regression onto one-hot own labels and the teachers' answers, pooled by `learning.pooling`."""
    known = labels if own is not None else tuple(label for label in labels if any(label in t.labels for t in teachers))
    x_Nd, y_NC = [], []
    if own is not None:
        local = samples(own)
        x_Nd.append(_flat(local.x_N))
        y_NC.append(np.eye(len(known), dtype=np.float32)[[known.index(local.labels[y]) for y in local.y_N]])
    if teachers:
        answers = pool(teachers, known, probe.inputs())
        seen_N = answers.mask_NC.any(axis=1)
        x_Nd.append(_flat(answers.x_N[seen_N]))
        y_NC.append(answers.probs_NC[seen_N])
    if not x_Nd or not sum(len(x) for x in x_Nd):
        return PlainHead(np.zeros((1 + int(np.prod(probe.x_N.shape[1:])), len(known)), np.float32), known)
    return PlainHead(_ridge(np.concatenate(x_Nd), np.concatenate(y_NC)), known)


def _ridge(x_Nd: Array, y_NC: Array) -> Array:
    x, y = x_Nd.astype(np.float64), y_NC.astype(np.float64)
    gram_dd = x.T @ x
    strength = RIDGE_SHARE * float(np.trace(gram_dd)) / len(gram_dd)
    gram_dd[np.diag_indices_from(gram_dd)] += strength
    weights_dC: Array = np.linalg.solve(gram_dd, x.T @ y).astype(np.float32)
    return weights_dC


def _flat(x_N: Array) -> Array:
    flat_Nd = x_N.reshape(len(x_N), -1).astype(np.float32)
    return np.concatenate([np.ones((len(flat_Nd), 1), np.float32), flat_Nd], axis=1)
