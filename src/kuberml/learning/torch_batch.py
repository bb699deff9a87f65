"""Many learners of one shape in one pass: their weights stacked, one network mapped over them by `torch.func.vmap`.

For GPUs, where a small network leaves most of the device idle. On a CPU it is slower than one learner after the other
(measured: convolutions with weights of their own become grouped ones, 0.56 to 0.75 of the plain loop): never taken there.

The law is the engine's (`torch_engine.train`): the same batches, loss and steps. Sums run in another order, so results agree
within rounding, not to the bit, and have an identity of their own (`worlds.simulated.together`). A group always has the same
size, filled up with copies where jobs are lacking: who else happens to be in it cannot change a learner's result.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from kuberml.core.errors import ConfigError
from kuberml.learning.batching import batches, step_count
from kuberml.learning.torch_learner import TorchLearner, check_plan, targets
from kuberml.learning.torch_scratch import Scratch, one_job, scratch_of
from kuberml.learning.types import Array, FitPlan, IntArray, Samples

Stacked = dict[str, Tensor]
"""Parameters by name, each [K, ...]: those of K learners."""


def why_not(learner: TorchLearner) -> str:
    """Why learners of this shape cannot be stacked; "" if they can."""
    scratch = scratch_of(learner)
    if len(scratch.layout) > len(list(scratch.module.parameters())):
        return "it keeps running statistics, which a mapped pass cannot change"
    if any(isinstance(layer, torch.nn.modules.dropout._DropoutNd) for layer in scratch.module.modules()):
        return "it drops units at random, from one generator for all"
    return ""


def fit_together(
    learner: TorchLearner,
    states: Sequence[Array],
    samples: Sequence[Samples],
    plan: FitPlan,
    seeds: Sequence[int],
    *,
    group: int,
) -> list[Array]:
    """What `learner.fit` makes of each (state, samples, seed), within rounding.

    Args:
        learner: of all of them.
        states: float32 [P] each; not changed.
        samples: as many for each: N.
        plan: of all of them.
        seeds: of each one's batch order.
        group: K, how many are done at once: copies of the last one fill it up.

    Raises:
        ConfigError: the learners cannot be stacked, or the samples are not as many for each.
    """
    check_plan(plan)
    if why := why_not(learner):
        raise ConfigError(f"{learner.architecture!r} cannot be trained in a stack: {why}")
    if len({len(one) for one in samples}) != 1 or not 1 <= len(states) <= group:
        raise ConfigError(f"a stack of {group} takes 1 to {group} learners with as many samples each, not {len(states)}")
    scratch, missing = scratch_of(learner), group - len(states)
    filled = [*range(len(states)), *[len(states) - 1] * missing]
    x_KN = np.stack([np.ascontiguousarray(samples[i].x_N, np.float32) for i in filled])
    y_KN = np.stack([targets(learner.labels, samples[i]) for i in filled])
    with one_job(0, scratch.device):
        scratch.module.train()
        weights = _stacked(scratch, np.stack([states[i] for i in filled]))
        _descend(scratch, weights, x_KN, y_KN, plan, [seeds[i] for i in filled])
        flat_KP = torch.cat([weights[name].reshape(group, -1) for name, _ in scratch.layout], dim=1).cpu().numpy()
    return [np.array(flat_KP[i]) for i in range(len(states))]


def _stacked(scratch: Scratch, states_KP: Array) -> Stacked:
    flat_KP, parts, start = torch.from_numpy(states_KP).to(scratch.device), {}, 0
    for name, shape in scratch.layout:
        stop = start + int(np.prod(shape))
        parts[name] = flat_KP[:, start:stop].reshape(-1, *shape).clone()
        start = stop
    return parts


def _descend(scratch: Scratch, weights: Stacked, x_KN: Array, y_KN: IntArray, plan: FitPlan, seeds: Sequence[int]) -> None:
    """Change the weights in place, step by step, as `torch_engine.train` does."""
    trained = [name for name, part in scratch.module.named_parameters() if part.requires_grad]
    fixed = {name: part for name, part in weights.items() if name not in trained}
    device = scratch.device.partition(":")[0]

    def loss(moving: Stacked, still: Stacked, x_B: Tensor, y_B: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=plan.bf16):
            return functional.cross_entropy(functional_call(scratch.module, {**moving, **still}, (x_B,)), y_B)

    slopes = vmap(grad(loss), randomness="error")
    moving = {name: weights[name] for name in trained}
    held = list(moving.values())
    velocity = [torch.zeros_like(part) for part in held] if plan.momentum else []
    x, y = torch.from_numpy(x_KN).to(scratch.device), torch.from_numpy(y_KN).to(scratch.device)
    streams = zip(*(batches(y_KN.shape[1], plan.batch, seed, "batches") for seed in seeds), strict=True)
    row_K1 = torch.arange(len(seeds), device=scratch.device)[:, None]
    for chosen in itertools.islice(streams, step_count(plan, y_KN.shape[1])):
        index_KB = torch.from_numpy(np.stack(chosen)).to(scratch.device)
        x_KB = x[row_K1, index_KB]
        x_KB = x_KB.permute(0, 1, 4, 2, 3) if x_KB.ndim == 5 else x_KB
        found = slopes(moving, fixed, x_KB, y[row_K1, index_KB])
        change = [found[name] for name in trained]
        if plan.weight_decay:
            torch._foreach_add_(change, held, alpha=plan.weight_decay)
        if plan.momentum:
            torch._foreach_mul_(velocity, plan.momentum)
            torch._foreach_add_(velocity, change)
            change = velocity
        torch._foreach_add_(held, change, alpha=-plan.lr)
