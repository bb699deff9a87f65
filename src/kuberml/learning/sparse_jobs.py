"""Jobs of adaptive sparse training: look at a model's loss, choose a mask, train under it; the mathematics is in `sparsity`.

Unstructured masks do not speed up dense kernels: the real work here is that of the dense model. What is charged to the
(virtual) device is what a sparse kernel would do: the multiply-adds of the weights that are kept.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from kuberml.core.jobs import job
from kuberml.core.rng import rng
from kuberml.core.values import value
from kuberml.learning.datasets import samples
from kuberml.learning.jobs import TRAINING, training_flops
from kuberml.learning.learner import Learner, label_positions
from kuberml.learning.sparsity import Mask, loss_rise, regrown, within_budget
from kuberml.learning.steering import Steering, steerable
from kuberml.learning.torch_learner import TorchLearner
from kuberml.learning.types import Array, DataRef, FitPlan, Samples

_LARGE = 1024.0
"""The step that a gradient is read off: a power of two, so large that rounding of the weights does not matter."""


@value
class Look(msgspec.Struct, frozen=True, eq=False):
    """The mean loss on a batch, and its gradient float32 [P] (0 for what has none, for instance running statistics)."""

    loss: float
    gradient_P: Array


@value
class Thinned(msgspec.Struct, frozen=True, eq=False):
    """A mask [P], and which share of the model's multiply-adds it leaves."""

    mask_P: Mask
    density: float


def _look_flops(learner: Learner, state: Array, data: DataRef, batch: int, seed: int) -> int:
    return (TRAINING + 1) * learner.flops_per_sample * min(batch, len(data))


@job(flops=_look_flops)
def look(learner: Learner, state: Array, data: DataRef, batch: int, seed: int) -> Look:
    """Loss and gradient on one batch of the data; zeros where there are none."""
    some = _batch(samples(data), batch, seed)
    if not len(some):
        return Look(0.0, np.zeros_like(state))
    answers_NC = learner.predict(state, some.x_N)
    y_N = label_positions(learner, some.labels)[some.y_N]
    return Look(float(-answers_NC[np.arange(len(y_N)), y_N].mean()), gradient(learner, state, some, seed))


def _thin_flops(learner: Learner, state: Array, data: DataRef, batch: int, batches: int, *_: Any) -> int:
    return TRAINING * learner.flops_per_sample * min(batch, len(data)) * batches


@job(flops=_thin_flops)
def thin(
    learner: Learner,
    state: Array,
    data: DataRef,
    batch: int,
    batches: int,
    least: float,
    regrow: float,
    allowed: float,
    seed: int,
) -> Thinned:
    """The mask of the smallest density whose predicted rise of the loss is within the budget; then a share grows back.

    The diagonal Fisher information is read off the gradients of a few batches: the mean of B g^2, B the batch.
    """
    own, uses_P = samples(data), np.maximum(uses_of(learner, state), 0)
    squares_P, sum_P = np.zeros_like(state), np.zeros_like(state)
    for k in range(batches):
        part = _batch(own, batch, seed + k)
        gradient_P = gradient(learner, state, part, seed + k)
        squares_P += len(part) / batches * gradient_P**2
        sum_P += gradient_P
    mask_P = within_budget(loss_rise(squares_P, state), _kept(learner, state), allowed, least)
    mask_P = regrown(mask_P, sum_P, regrow)
    return Thinned(mask_P, float(uses_P[mask_P].sum(dtype=np.float64) / uses_P.sum(dtype=np.float64)))


def _sparse_flops(learner: Learner, state: Array, data: DataRef, plan: FitPlan, seed: int, mask_P: Mask, density: float) -> int:
    return int(training_flops(learner, plan, len(data)) * density)


@job(flops=_sparse_flops)
def fit_sparse(learner: Learner, state: Array, data: DataRef, plan: FitPlan, seed: int, mask_P: Mask, density: float) -> Array:
    """As `fit`, where only the kept weights move; charged by `density`, see the module.

    Raises:
        ConfigError: the learner cannot be steered.
    """
    return steerable(learner).fit(state, samples(data), plan, seed, steering=Steering(mask_P=mask_P))


def gradient(learner: Learner, state: Array, part: Samples, seed: int) -> Array:
    """Of the mean loss on some samples, float32 [P]: what one step of SGD changes. The same for every learner that does SGD."""
    if not len(part):
        return np.zeros_like(state)
    after = learner.fit(state, part, FitPlan(lr=_LARGE, steps=1, batch=len(part)), seed)
    found_P: Array = ((state - after) / np.float32(_LARGE)).astype(np.float32)
    return np.where(uses_of(learner, state) >= 0, found_P, np.float32(0))


def uses_of(learner: Learner, state: Array) -> Array:
    """How often each number of a state is multiplied in a forward pass, float32 [P]; -1 for what is no weight.

    Of another learner than a network: once each.
    """
    if not isinstance(learner, TorchLearner):
        return np.ones(len(state), np.float32)
    from kuberml.learning.torch_uses import uses

    return uses(learner)


def _kept(learner: Learner, state: Array) -> Mask:
    """What is never pruned: biases and norms, the first and the last layer, and what is no weight."""
    tensors = getattr(learner, "tensors", None)
    if tensors is None:
        return np.zeros(len(state), np.bool_)
    parts = tensors(state)
    wide = [name for name, part in parts.items() if part.ndim > 1]
    free = set(wide[1:-1]) if len(wide) > 2 else set(wide[:1])  # of two layers the first may be thinned
    return np.concatenate([np.full(part.size, name not in free, np.bool_) for name, part in parts.items()])


def _batch(own: Samples, batch: int, seed: int) -> Samples:
    chosen = rng(seed, "look").permutation(len(own))[:batch]
    return Samples(own.x_N[chosen], own.y_N[chosen], own.labels)
