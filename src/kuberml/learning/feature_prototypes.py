"""Prototypes of labels in the features of networks that are still being trained: class means, as FedProto shares them.

(The kind of knowledge `prototypes` is something else: exact sums of unit embeddings of one frozen extractor.)
Legend: N samples, C labels of the learner, d features.
"""

from __future__ import annotations

import math
from typing import Any, cast

import msgspec
import numpy as np
import numpy.typing as npt

from kuberml.core.errors import ConfigError
from kuberml.core.ids import LabelId
from kuberml.core.jobs import job
from kuberml.core.values import value
from kuberml.learning.datasets import samples
from kuberml.learning.learner import Learner, State, label_positions
from kuberml.learning.predictor import log_softmax
from kuberml.learning.types import Array, DataRef, FitPlan


@value
class Prototypes(msgspec.Struct, frozen=True, eq=False):
    """Means of features, and how strongly a fit draws features to them.

    Attributes:
        means_Cd: float32 [C, d]; a row for each label of the learner.
        known_C: bool [C]; where it is False nobody had a sample, and the row says nothing.
        weight: >= 0, the paper's lambda.
    """

    means_Cd: Array
    known_C: npt.NDArray[np.bool_]
    weight: float = 1.0

    def check(self, labels: int, d: int) -> None:
        """Check them against a learner. Raises ConfigError: they are of other labels or features, or the weight is negative."""
        if self.means_Cd.shape != (labels, d) or self.known_C.shape != (labels,):
            raise ConfigError(f"prototypes {list(self.means_Cd.shape)} are not of {labels} labels and {d} features")
        if not (self.weight >= 0 and math.isfinite(self.weight)):
            raise ConfigError(f"prototypes: weight must be 0 or more and finite, not {self.weight}")


def featured(learner: Learner) -> Any:
    """The same learner, known to have features. Raises ConfigError: it has none that can be seen."""
    if not hasattr(learner, "features"):
        raise ConfigError(f"a {type(learner).__name__} shows no features: fedproto needs learners in torch, for instance 'mlp'")
    return learner


def _fit_flops(learner: Learner, _: State, data: DataRef, plan: FitPlan, *__: Any) -> int:
    from kuberml.learning.jobs import training_flops

    return training_flops(learner, plan, len(data))


@job(flops=_fit_flops)
def fit_towards(learner: Learner, state: State, data: DataRef, plan: FitPlan, seed: int, towards: Prototypes) -> State:
    """A fit whose features are drawn to the prototypes of their labels; d operations a sample for that are not counted."""
    return featured(learner).fit(state, samples(data), plan, seed, towards=towards)


@job(flops=lambda learner, state, data: learner.flops_per_sample * len(data))
def class_means(learner: Learner, state: State, data: DataRef) -> tuple[Array, npt.NDArray[np.int64]]:
    """Mean features of each label, float32 [C, d] (0 where there is no sample), and how many samples, int64 [C]."""
    own = samples(data)
    z_Nd = featured(learner).features(state, own.x_N)
    y_N = label_positions(learner, own.labels)[own.y_N]
    count_C = np.bincount(y_N, minlength=len(learner.labels)).astype(np.int64)
    sums_Cd = np.zeros((len(learner.labels), z_Nd.shape[1]))
    np.add.at(sums_Cd, y_N, z_Nd)
    return (sums_Cd / np.maximum(count_C, 1)[:, None]).astype(np.float32), count_C


@value
class Nearest(msgspec.Struct, frozen=True, eq=False):
    """A network that answers by the nearest prototype: log-softmax of minus the squared distances, over all labels.

    A label without a prototype is as far as can be.
    """

    learner: Any
    state: Any
    prototypes: Prototypes

    @property
    def labels(self) -> tuple[LabelId, ...]:
        """The learner's."""
        return cast(Learner, self.learner).labels

    @property
    def flops_per_sample(self) -> int:
        """The network's, and 3 d C of the distances."""
        return cast(Learner, self.learner).flops_per_sample + 3 * self.prototypes.means_Cd.size

    def predict(self, x_N: Array) -> Array:
        """Log-probabilities, float32 [N, C]."""
        if not len(x_N):
            return np.empty((0, len(self.labels)), np.float32)
        z_Nd = featured(self.learner).features(self.state, x_N).astype(np.float64)
        apart_NC = ((z_Nd[:, None, :] - self.prototypes.means_Cd[None]) ** 2).sum(axis=2)
        farthest = float(apart_NC.max()) + 1e3
        return log_softmax(-np.where(self.prototypes.known_C, apart_NC, farthest))
