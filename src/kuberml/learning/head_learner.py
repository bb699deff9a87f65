"""A softmax head on a frozen extractor, trained by SGD in numpy: the learner of every paradigm that averages only heads."""

from __future__ import annotations

import msgspec
import numpy as np

from kuberml.core.ids import LabelId
from kuberml.core.rng import rng
from kuberml.core.values import value
from kuberml.knowledge.kinds.extractor import Extractor
from kuberml.learning.extractors import built, features
from kuberml.learning.learner import SoftTargets, inputs_of, label_positions
from kuberml.learning.predictor import log_softmax
from kuberml.learning.steering import Steering
from kuberml.learning.types import Array, FitPlan, IntArray, Samples


@value
class HeadLearner(msgspec.Struct, frozen=True, eq=False):
    """z -> softmax(z W + b). A state is W [d, C] and b [C] as one float32 vector [(d + 1) C].

    Attributes:
        extractor: frozen; both ends of a federation have the same.
        labels: names of the C classes.
        d: features that the extractor makes.
        shape: of one sample, as the extractor takes it.
    """

    extractor: Extractor
    labels: tuple[LabelId, ...]
    d: int
    shape: tuple[int, ...]

    averageable = True

    @property
    def flops_per_sample(self) -> int:
        """Extractor and head, forward."""
        return self.frozen_flops_per_sample + 2 * (self.d + 1) * len(self.labels)

    @property
    def frozen_flops_per_sample(self) -> int:
        """The extractor's share, which a fit pays once a sample and not in every epoch."""
        return built(self.extractor).flops(self.shape)

    def init(self, seed: int) -> Array:
        """Zeros: the loss is convex, the start does not matter."""
        return np.zeros((self.d + 1) * len(self.labels), np.float32)

    def fit(
        self,
        state: Array,
        samples: Samples,
        plan: FitPlan,
        seed: int,
        *,
        soft: SoftTargets | None = None,
        steering: Steering | None = None,
    ) -> Array:
        """Minibatch SGD on cross entropy, and on soft targets where given (at temperature 1). See `Learner.fit`.

        Raises:
            ConfigError: the steering is not of this head's states.
        """
        if steering is not None:
            steering.check(len(state))
        z_Nd = features(self.extractor, samples.x_N) if len(samples) else np.zeros((0, self.d), np.float32)
        targets_NC = np.eye(len(self.labels), dtype=np.float32)[label_positions(self, samples.labels)[samples.y_N]]
        if soft is not None:
            z_Nd = np.concatenate([z_Nd, features(self.extractor, inputs_of(soft))])
            targets_NC = np.concatenate([targets_NC, soft.probs_NC])
        return self.fit_features(state, z_Nd, targets_NC, plan, seed, steering=steering)

    def fit_features(
        self, state: Array, z_Nd: Array, targets_NC: Array, plan: FitPlan, seed: int, *, steering: Steering | None = None
    ) -> Array:
        """As `fit`, on features and probabilities of the labels."""
        z_Nd = _with_bias(z_Nd)
        w_dC = state.reshape(self.d + 1, -1).copy()
        velocity_dC = np.zeros_like(w_dC)
        for batch in _batches(len(z_Nd), plan, seed):
            p_NC = _softmax(z_Nd[batch] @ w_dC)
            gradient_dC = (
                z_Nd[batch].T @ (p_NC - targets_NC[batch]) / np.float32(len(batch)) + np.float32(plan.weight_decay) * w_dC
            )
            if steering is not None:
                gradient_dC = steering.pulled(gradient_dC.ravel(), w_dC.ravel(), state).reshape(w_dC.shape)
            velocity_dC = np.float32(plan.momentum) * velocity_dC + gradient_dC
            w_dC -= np.float32(plan.lr) * velocity_dC
        flat: Array = w_dC.ravel()
        return flat

    def predict(self, state: Array, x_N: Array) -> Array:
        """Log-probabilities float32 [N, C]."""
        logits_NC = _with_bias(features(self.extractor, x_N)) @ state.reshape(self.d + 1, -1)
        return log_softmax(logits_NC)


def _with_bias(z_Nd: Array) -> Array:
    return np.concatenate([np.ones((len(z_Nd), 1), np.float32), z_Nd], axis=1)


def _softmax(logits_NC: Array) -> Array:
    e_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
    p_NC: Array = (e_NC / e_NC.sum(axis=1, keepdims=True)).astype(np.float32)
    return p_NC


def _batches(count: int, plan: FitPlan, seed: int) -> list[IntArray]:
    if not count:
        return []
    steps = plan.steps or plan.epochs * -(-count // plan.batch)
    stream, found, order = rng(seed, "batches"), [], np.zeros(0, np.int64)
    for _ in range(steps):
        if not len(order):
            order = stream.permutation(count)
        found.append(order[: plan.batch])
        order = order[plan.batch :]
    return found
