"""Is an engine as good as the predictor it stands for? Pure functions of answers. Legend: N samples, C labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kuberml.core.ids import LabelId
from kuberml.learning.types import Array, IntArray, Samples

_ROUNDING = 1e-9  # of the difference of two shares


@dataclass(frozen=True, slots=True)
class Proof:
    """How answers compare with the predictor's.

    Attributes:
        samples: that were compared.
        agreement: share of them with the same first label.
        worst: largest difference of any probability.
        labelled: of them with a known label that the predictor has.
        accuracy, reference: share of those that the engine, and the predictor, answer rightly; NaN without any.
    """

    samples: int
    agreement: float
    worst: float
    labelled: int
    accuracy: float
    reference: float

    @property
    def lost(self) -> float:
        """Accuracy lost against the predictor; below 0 if the engine happens to be better, NaN without labels."""
        return self.reference - self.accuracy


def compare(answers_NC: Array, reference_NC: Array, y_N: IntArray | None = None) -> Proof:
    """The proof from log-probabilities. `y_N` are columns, -1 for a label that the predictor lacks."""
    first_N, wanted_N = answers_NC.argmax(1), reference_NC.argmax(1)
    worst = float(np.abs(np.exp(answers_NC) - np.exp(reference_NC)).max()) if reference_NC.size else 0.0
    known_N = np.zeros(len(first_N), bool) if y_N is None else y_N >= 0
    right = [float((each[known_N] == (y_N[known_N] if y_N is not None else 0)).mean()) if known_N.any() else math.nan
             for each in (first_N, wanted_N)]  # fmt: skip
    agreement = float((first_N == wanted_N).mean()) if len(first_N) else math.nan
    return Proof(len(first_N), agreement, worst, int(known_N.sum()), *right)


def doubt(proof: Proof, bound: float, *, exact: bool) -> str:
    """Why an engine is not taken; "" if it is.

    Args:
        proof: on samples that it was not calibrated with.
        bound: fp32: largest difference of a probability; reduced precision: accuracy that may be lost. 0..1.
        exact: it computes in fp32, and nothing but rounding may differ.
    """
    if not math.isfinite(proof.worst):
        return "it answers NaN"
    if exact and not proof.worst <= bound:
        return f"a probability is {proof.worst:.2g} off, over the bound of {bound:g}"
    if not exact and proof.labelled < needed(bound):
        return f"to see a loss of {bound:g} takes {needed(bound)} labelled samples held out; there are {proof.labelled}"
    if proof.labelled and proof.lost > bound + _ROUNDING:
        return f"accuracy {proof.accuracy:.4f} instead of {proof.reference:.4f}, over the bound of {bound:g}"
    return ""


def needed(bound: float) -> int:
    """Least number of labelled samples of which one is no more than the bound."""
    return math.ceil(1 / max(bound, 1e-6))


def columns(samples: Samples, labels: tuple[LabelId, ...]) -> IntArray:
    """Each sample's label as a column of the predictor, -1 where it lacks it; int64 [N]."""
    place = {name: column for column, name in enumerate(labels)}
    return np.array([place.get(name, -1) for name in samples.labels], np.int64)[samples.y_N]
