"""The work of learning as jobs: thin wrappers over pure functions, each with what it costs.

Costs are floating point operations: a forward pass 1, a training step 3 (forward, and the gradients of inputs and weights).
"""

from __future__ import annotations

from kuberml.core.jobs import job
from kuberml.learning import evaluation
from kuberml.learning.batching import samples_seen, step_count
from kuberml.learning.datasets import samples
from kuberml.learning.learner import Learner, State
from kuberml.learning.predictor import Predictor
from kuberml.learning.types import Array, DataRef, FitPlan, Scores

TRAINING = 3
"""A training step in forward passes."""


def training_flops(learner: Learner, plan: FitPlan, count: int, taught: int = 0) -> int:
    """Of one fit on `count` samples and `taught` soft targets: every sample that a batch holds, forward and backward."""
    steps = step_count(plan, count, taught)
    seen = samples_seen(count, plan.batch, steps) + samples_seen(taught, plan.batch, steps)
    return TRAINING * learner.flops_per_sample * seen


def predict_flops(predictor: Predictor, data: DataRef) -> int:
    """Of `score` and `predict`."""
    return predictor.flops_per_sample * len(data)


@job(flops=lambda learner, seed: 0)
def init_state(learner: Learner, seed: int) -> State:
    """The learner's state before anything was learned."""
    return learner.init(seed)


@job(flops=lambda learner, state, data, plan, seed: training_flops(learner, plan, len(data)))
def fit(learner: Learner, state: State, data: DataRef, plan: FitPlan, seed: int) -> State:
    """Go on learning from `state` on private data."""
    return learner.fit(state, samples(data), plan, seed)


@job(flops=predict_flops)
def score(predictor: Predictor, data: DataRef) -> Scores:
    """Right answers per label."""
    return evaluation.score(predictor, samples(data))


@job(flops=predict_flops)
def predict(predictor: Predictor, data: DataRef) -> Array:
    """Log-probabilities of the samples, float32 [N, C]."""
    return predictor.predict(samples(data).x_N)
