"""Weighted rows: private samples and teachers' answers in the form that every classical estimator can fit.

A soft target of several labels becomes one row for each label that has a part in it, weighted by that part. The rows of own
samples weigh 1 - alpha together and those of teachers alpha, scaled so that the mean weight of a sample is 1.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import numpy.typing as npt

from kuberml.core.errors import ConfigError
from kuberml.core.values import value
from kuberml.learning.learner import SoftTargets, inputs_of
from kuberml.learning.types import Array, IntArray

_SMALLEST_PART = 0.01  # of a teacher's answer: smaller ones cost rows and say nothing


@value
class Rows(msgspec.Struct, frozen=True):
    """R rows for an estimator.

    Attributes:
        x_RD: float32 [R, D]; y_R: positions in the learner's labels, int64 [R]; weight_R: float64 [R], >= 0.
    """

    x_RD: Array
    y_R: IntArray
    weight_R: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.y_R)


def rows_of(x_N: Array, y_N: IntArray, soft: SoftTargets | None, *, weighted: bool) -> Rows:
    """The rows of own samples (their positions in the learner's labels) and soft targets.

    Raises:
        ConfigError: own samples and soft targets have inputs of different sizes.
    """
    own = Rows(_flat(x_N), np.asarray(y_N, np.int64), np.ones(len(y_N)))
    if soft is None or len(soft) == 0:
        return own
    taught = _taught(soft) if weighted else _likeliest(soft)
    if not len(own):
        return taught
    if own.x_RD.shape[1] != taught.x_RD.shape[1]:
        raise ConfigError(f"soft targets have {taught.x_RD.shape[1]} inputs a sample, the samples {own.x_RD.shape[1]}")
    total, taught_total = len(own) + taught.weight_R.sum(), max(float(taught.weight_R.sum()), 1e-12)
    return Rows(
        np.concatenate([own.x_RD, taught.x_RD]),
        np.concatenate([own.y_R, taught.y_R]),
        np.concatenate(
            [own.weight_R * (1 - soft.alpha) * total / len(own), taught.weight_R * soft.alpha * total / taught_total]
        ),
    )


def _taught(soft: SoftTargets) -> Rows:
    """One row for each label with a part in an answer; a softened answer is sharpened to temperature 1 first."""
    sharp_NC: npt.NDArray[np.float64] = np.where(soft.mask_NC, soft.probs_NC, 0).astype(np.float64) ** soft.temperature
    sharp_NC /= np.maximum(sharp_NC.sum(axis=1, keepdims=True), 1e-300)
    row_R, label_R = np.nonzero(sharp_NC >= _SMALLEST_PART)
    return Rows(_flat(inputs_of(soft))[row_R], label_R.astype(np.int64), sharp_NC[row_R, label_R])


def _likeliest(soft: SoftTargets) -> Rows:
    known_N = soft.mask_NC.any(axis=1)
    label_M = np.where(soft.mask_NC, soft.probs_NC, -1)[known_N].argmax(axis=1)
    return Rows(_flat(inputs_of(soft))[known_N], label_M.astype(np.int64), np.ones(len(label_M)))


def _flat(x_N: Array) -> Array:
    return np.asarray(x_N, np.float32).reshape(len(x_N), math.prod(x_N.shape[1:]))
