"""The training engine: one thread, SGD on a scratch module, nothing between autograd and the weights.

What makes it fast (`benchmarks/engine.py` measures it): no optimizer object and no `.grad`, gradients come from `autograd.grad`
and go into the weights by `_foreach_` operations; images are channels-last at no cost, because samples are (H, W, channels).
What makes it repeatable: one thread, batch order from `core.rng`, torch's generator seeded for the job and put back after it.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from kuberml.core.rng import seed_of
from kuberml.learning.batching import batches, step_count
from kuberml.learning.steering import Steering
from kuberml.learning.torch_features import Guide, watched
from kuberml.learning.torch_scratch import Scratch, one_job
from kuberml.learning.torch_steering import Pull
from kuberml.learning.types import Array, FitPlan, IntArray

if TYPE_CHECKING:
    from kuberml.learning.feature_prototypes import Prototypes

_PREDICT_BATCH = 256
_NEVER = -1e9  # in place of -inf, so that 0 * log-probability is 0


@dataclass(frozen=True, slots=True)
class Soft:
    """Soft targets in memory; M samples, C classes. See `learner.SoftTargets`."""

    x_M: Array
    probs_MC: Array
    mask_MC: npt.NDArray[np.bool_]
    temperature: float
    alpha: float


def train(
    scratch: Scratch,
    state: Array,
    x_N: Array,
    y_N: IntArray,
    *,
    plan: FitPlan,
    seed: int,
    soft: Soft | None = None,
    head_only: bool = False,
    steering: Steering | None = None,
    towards: Prototypes | None = None,
) -> Array:
    """The state after training from `state`; float32 [P].

    Args:
        scratch: the module to train in.
        state: where to start; not changed.
        x_N: inputs float32 [N, ...]; N may be 0.
        y_N: targets 0..C-1.
        plan: how.
        seed: of the batch order and of dropout.
        soft: soft targets; a batch of them joins every batch of samples.
        head_only: train the last layer and nothing else, with the module in evaluation mode.
        steering: what pulls besides the loss.
        towards: prototypes that features are drawn to.
    """
    if soft is not None and len(soft.x_M) == 0:
        soft = None
    taught_count = len(soft.x_M) if soft else 0
    steps = step_count(plan, len(y_N), taught_count)
    with one_job(seed_of(seed, "torch"), scratch.device), contextlib.ExitStack() as stack:
        scratch.load(state)
        scratch.module.train(not head_only)
        guide = Guide(stack.enter_context(watched(scratch)), towards, scratch.device) if towards is not None else None
        trained = scratch.head if head_only else scratch.trainable
        descend = _Descent(trained, plan, None if steering is None else Pull(steering, scratch, trained, state))
        kind = scratch.device.partition(":")[0]
        precision = torch.autocast(kind, torch.bfloat16) if plan.bf16 else contextlib.nullcontext()
        hard_batches = batches(len(y_N), plan.batch, seed, "batches")
        soft_batches = batches(taught_count, plan.batch, seed, "soft")
        for hard, taught in itertools.islice(zip(hard_batches, soft_batches, strict=False), steps):
            with precision:
                loss = _loss(scratch, x_N[hard], y_N[hard], soft, taught)
                loss = loss + guide(y_N[hard]) if guide is not None else loss
            descend(loss)
        return scratch.store()


def predict(scratch: Scratch, state: Array, x_N: Array) -> Array:
    """Log-probabilities float32 [N, C], in evaluation mode. A state that is not finite (a diverged fit) answers uniformly."""
    with one_job(0, scratch.device), torch.inference_mode():
        scratch.load(state)
        scratch.module.eval()
        parts = [
            functional.log_softmax(scratch.module(scratch.inputs(x_N[start : start + _PREDICT_BATCH])).float(), dim=1).cpu()
            for start in range(0, len(x_N), _PREDICT_BATCH)
        ]
    answers_NC = torch.cat(parts).numpy()
    bad_N = ~np.isfinite(answers_NC).all(axis=1)
    answers_NC[bad_N] = -np.log(np.float32(answers_NC.shape[1]))
    return answers_NC


def _loss(scratch: Scratch, x_B: Array, y_B: IntArray, soft: Soft | None, taught: IntArray) -> Tensor:
    """(1 - alpha) * cross-entropy + alpha * T² * KL(teacher || student over the mask), up to the teacher's entropy."""
    y = torch.from_numpy(y_B).to(scratch.device)
    if soft is None:
        return functional.cross_entropy(scratch.module(scratch.inputs(x_B)), y)
    logits = scratch.module(scratch.inputs(np.concatenate([x_B, soft.x_M[taught]])))
    probs, mask = (torch.from_numpy(part[taught]).to(scratch.device) for part in (soft.probs_MC, soft.mask_MC))
    masked = (logits[len(y) :].float() / soft.temperature).masked_fill(~mask, _NEVER)
    distance = -(probs * functional.log_softmax(masked, dim=1)).sum(1).mean()
    loss = soft.alpha * soft.temperature**2 * distance
    return loss + (1 - soft.alpha) * functional.cross_entropy(logits[: len(y)], y) if len(y) else loss


class _Descent:
    """Plain SGD with momentum and weight decay, as `torch.optim.SGD` defines them, on a list of parameters."""

    def __init__(self, parameters: Sequence[Tensor], plan: FitPlan, pull: Pull | None) -> None:
        self._parameters, self._plan, self._pull = list(parameters), plan, pull
        self._weights = [part.detach() for part in parameters]  # the same memory, outside autograd
        self._velocity = [torch.zeros_like(part) for part in self._weights] if plan.momentum else []

    def __call__(self, loss: Tensor) -> None:
        """One step down the gradient of `loss`."""
        change = list(torch.autograd.grad(loss, self._parameters, materialize_grads=True))
        if self._plan.weight_decay:
            torch._foreach_add_(change, self._weights, alpha=self._plan.weight_decay)
        if self._pull is not None:
            change = self._pull(change, self._weights)
        if self._plan.momentum:
            torch._foreach_mul_(self._velocity, self._plan.momentum)
            torch._foreach_add_(self._velocity, change)
            change = self._velocity
        torch._foreach_add_(self._weights, change, alpha=-self._plan.lr)
