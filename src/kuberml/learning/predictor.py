"""Predictors: a learner with its state, or a head on frozen features; one interface for serving, scoring and teaching.

A predictor is a frozen `@value`, so it travels to jobs, and it is all that a trial, a claim or a user needs to know of a model:
its labels, its answers, its cost. Legend: N samples, C labels of the predictor, d features.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

import msgspec
import numpy as np

from kuberml.core.errors import ConfigError
from kuberml.core.ids import LabelId
from kuberml.core.values import value
from kuberml.knowledge.kinds.extractor import Extractor
from kuberml.knowledge.kinds.statistics import Head
from kuberml.knowledge.threads import one_thread
from kuberml.learning.extractors import built, features
from kuberml.learning.learner import Learner, State
from kuberml.learning.types import Array

SHARPNESS = 10.0
"""A head's scores are regressions on 0 and 1: a sure answer leads by 1 only. Ten times that is close to a probability (the
likelihood of training samples kept apart is best at 10 to 14 for digits, at 8 to 10 for Fashion-MNIST)."""


class Predictor(Protocol):
    """Answers for samples, over its own labels."""

    @property
    def labels(self) -> tuple[LabelId, ...]:
        """Names of the C columns of `predict`."""
        ...

    @property
    def flops_per_sample(self) -> int:
        """Floating point operations of one answer."""
        ...

    def predict(self, x_N: Array) -> Array:
        """Log-probabilities, float32 [N, C], of inputs float32 [N, ...]."""
        ...


@value
class Network(msgspec.Struct, frozen=True):
    """A learner and what it has learned: the learner's *own network*."""

    learner: Any
    state: Any

    @property
    def labels(self) -> tuple[LabelId, ...]:
        """The learner's."""
        return self._learner.labels

    @property
    def flops_per_sample(self) -> int:
        """The learner's forward pass."""
        return self._learner.flops_per_sample

    def predict(self, x_N: Array) -> Array:
        """The learner's answers; see `Learner.predict`."""
        return self._learner.predict(cast(State, self.state), x_N)

    @property
    def _learner(self) -> Learner:
        return cast(Learner, self.learner)


@value
class HeadOn(msgspec.Struct, frozen=True):
    """A ridge head solved from statistics, on a frozen extractor.

    Attributes:
        extractor: whose features the head reads.
        head: solved from statistics on that basis.
        shape: of one sample, for what an answer costs.
    """

    extractor: Extractor
    head: Head
    shape: tuple[int, ...]

    @property
    def labels(self) -> tuple[LabelId, ...]:
        """Those the statistics know."""
        return tuple(self.head.labels)

    @property
    def flops_per_sample(self) -> int:
        """The extractor's, and 2 d C of the head."""
        return built(self.extractor).flops(self.shape) + 2 * int(np.prod(self.head.weights_dC.shape))

    def predict(self, x_N: Array) -> Array:
        """Log-softmax of SHARPNESS times the head's scores."""
        if not len(x_N):
            return np.empty((0, len(self.labels)), np.float32)
        with one_thread():
            return log_softmax(SHARPNESS * self.head.scores(features(self.extractor, x_N)))


@value
class Blend(msgspec.Struct, frozen=True):
    """Two predictors of which each answers for what it knows better, on the union of their labels.

    probability of a label = share · first + (1 - share) · second, with a share for each label, then normalised; a predictor
    gives 0 to a label that it lacks, and the other then answers alone.

    Attributes:
        first, second: predictors.
        share: label -> weight of the first, 0..1; 0.5 for labels that are not named and both know.
    """

    first: Any
    second: Any
    share: dict[LabelId, float] = {}

    @property
    def labels(self) -> tuple[LabelId, ...]:
        """Labels of the first, then those that only the second has."""
        first, second = self._both()
        return (*first.labels, *(name for name in second.labels if name not in set(first.labels)))

    @property
    def flops_per_sample(self) -> int:
        """Of both."""
        return sum(part.flops_per_sample for part in self._both())

    def predict(self, x_N: Array) -> Array:
        """Log-probabilities, float32 [N, C].

        Raises:
            ConfigError: a share is outside 0..1, or names a label that nobody has.
        """
        shares_C = self._shares()
        first_NC, second_NC = (align(np.exp(part.predict(x_N)), part.labels, self.labels) for part in self._both())
        mixed_NC = shares_C * first_NC + (1 - shares_C) * second_NC
        tiny = np.finfo(np.float32).tiny
        return cast(Array, np.log(np.maximum(mixed_NC / np.maximum(mixed_NC.sum(1, keepdims=True), tiny), tiny)))

    def _both(self) -> tuple[Predictor, Predictor]:
        return cast(Predictor, self.first), cast(Predictor, self.second)

    def _shares(self) -> Array:
        first, second = (set(part.labels) for part in self._both())
        for name, share in self.share.items():
            if name not in first | second or not 0 <= share <= 1:
                raise ConfigError(f"blend: share[{name!r}] = {share!r} must be 0..1 for one of the labels {list(self.labels)}")
        alone = dict.fromkeys(first - second, 1.0) | dict.fromkeys(second - first, 0.0)
        return np.array([(self.share | alone).get(name, 0.5) for name in self.labels], np.float32)


def align(answers_NC: Array, labels: tuple[LabelId, ...], wanted: tuple[LabelId, ...], missing: float = 0.0) -> Array:
    """Columns by name: answers over `labels` as answers over `wanted`, `missing` where a label has no column."""
    place = {name: position for position, name in enumerate(labels)}
    out_NC = np.full((len(answers_NC), len(wanted)), missing, np.float32)
    shared = [(column, place[name]) for column, name in enumerate(wanted) if name in place]
    if shared:
        to, source = (list(side) for side in zip(*shared, strict=True))
        out_NC[:, to] = answers_NC[:, source]
    return out_NC


def log_softmax(scores_NC: Any) -> Array:
    """Log-probabilities, float32 [N, C], of any scores; computed in float64."""
    shifted_NC = np.asarray(scores_NC, np.float64)
    shifted_NC = shifted_NC - shifted_NC.max(axis=1, keepdims=True)
    normalised: Array = (shifted_NC - np.log(np.exp(shifted_NC).sum(axis=1, keepdims=True))).astype(np.float32)
    return normalised
