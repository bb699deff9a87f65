"""The parts of a cut network in torch: forward, and one step of SGD from a gradient that came over the wire. See `split`.

No autograd graph outlives a call, so what must go back later goes forward again first. What passes a cut travels as float32
[N, ...], images as (N, H, W, channels) like samples: their memory on the other side is as it was on this one, and a cut network
computes what the whole one does. Legend: B samples of a batch, F weights of a part.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from kuberml.core import values
from kuberml.core.errors import ConfigError
from kuberml.learning.models import build
from kuberml.learning.torch_learner import TorchLearner
from kuberml.learning.torch_scratch import Scratch, counted, one_job
from kuberml.learning.types import Array, FitPlan, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One part, in this process.

    Attributes:
        scratch: its module.
        places_F: int64 [F], where its weights stand in a whole state.
        shape: of one sample's answer, as it travels.
        flops_per_sample: of one sample forward.
    """

    scratch: Scratch
    places_F: IntArray
    shape: tuple[int, ...]
    flops_per_sample: int


@dataclass(frozen=True, slots=True)
class Stepped:
    """A part after a step: weights [F], velocity (empty without momentum), and the gradient of its input, as it travels."""

    weights_F: Array
    velocity_F: Array
    gradient_B: Array


def cuts_of(learner: TorchLearner, at: str, *, labels_stay: bool) -> tuple[str, ...]:
    """The names of the layers at which to cut; see `split.cut`. Raises ConfigError: there are none."""
    module, who = _built(learner), f"model {learner.architecture!r} cannot be cut"
    names = [name for name, _ in module.named_children()]
    weighted = [place for place, layer in enumerate(module) if list(layer.parameters())]
    if at and at not in names:
        raise ConfigError(f"{who} at {at!r}: its layers are called {', '.join(names)}")
    linear = [place for place in weighted[1:] if isinstance(module[place], nn.Linear)]
    if not at and not linear:
        raise ConfigError(f"{who}: it needs two layers with weights, the second a linear one, or say at which layer (`cut`)")
    first = names.index(at) if at else linear[0]
    places = [first, weighted[-1]] if labels_stay else [first]
    inside = [sum(low <= one < high for one in weighted) for low, high in zip([0, *places], [*places, len(names)], strict=True)]
    if min(inside) < 1:
        parts = "front, body and tail" if labels_stay else "front and body"
        raise ConfigError(f"{who} at {names[first]!r}: {parts} have {inside} layers with weights; each needs one or more")
    return tuple(names[place] for place in places)


@functools.lru_cache(maxsize=16)
def parts_of(
    architecture: str, shape: tuple[int, ...], classes: int, options: bytes, device: str, cuts: tuple[str, ...]
) -> tuple[Part, ...]:
    """The parts, made once a process. Raises ConfigError: as `scratch_of`."""
    learner = TorchLearner(architecture, shape, tuple(str(label) for label in range(classes)), values.loads(options), device)
    with one_job(0), torch.no_grad():
        whole = Scratch(_built(learner), device)
        module = whole.module
        assert isinstance(module, nn.Sequential), "_built checked it"
        starts = np.cumsum([0, *(int(np.prod(form)) for _, form in whole.layout)])
        ranges = {name: np.arange(*starts[k : k + 2]) for k, (name, _) in enumerate(whole.layout)}
        names = [name for name, _ in module.named_children()]
        edges = [0, *(names.index(name) for name in cuts), len(names)]
        x, parts = whole.inputs(np.zeros((1, *shape), np.float32)), []
        for low, high in itertools.pairwise(edges):
            scratch = Scratch(module[low:high], device)
            scratch.module.eval()
            flops, x = counted(scratch.module, x)
            places_F = np.concatenate([ranges[name] for name, _ in scratch.layout])
            parts.append(Part(scratch, places_F, tuple(_as_sent(x).shape[1:]), flops))
    return tuple(parts)


def forward(part: Part, weights_F: Array, x_B: Array, seed: int) -> Array:
    """What a part answers while it is trained: float32 [B, ...], as it travels."""
    with one_job(seed, part.scratch.device):
        part.scratch.load(weights_F)
        part.scratch.module.train()
        return _as_sent(part.scratch.module(part.scratch.inputs(x_B)).detach())


def step(
    part: Part, weights_F: Array, velocity_F: Array, x_B: Array, down: Array | IntArray, plan: FitPlan, seed: int
) -> Stepped:
    """Forward again, back, and one step of SGD.

    Args:
        part: which.
        weights_F, velocity_F: where it stands; the velocity is empty before the first step, and without momentum.
        x_B: its input, as it travels.
        down: float32, the gradient of the loss for its answers, as it travels; or int64 [B], the targets of the last part.
        plan: step size, momentum, weight decay.
        seed: of dropout; the same as of the `forward` before.
    """
    scratch = part.scratch
    with one_job(seed, scratch.device):
        scratch.load(weights_F)
        scratch.module.train()
        x = scratch.inputs(x_B).requires_grad_()
        out, wanted = scratch.module(x), [*scratch.trainable, x]
        if down.dtype == np.int64:
            loss = functional.cross_entropy(out, torch.from_numpy(np.array(down)).to(scratch.device))
            found = torch.autograd.grad(loss, wanted, materialize_grads=True)
        else:
            found = torch.autograd.grad(out, wanted, scratch.inputs(np.asarray(down, np.float32)), materialize_grads=True)
        velocity_F = _descend(scratch.trainable, list(found[:-1]), velocity_F, plan)
        return Stepped(scratch.store(), velocity_F, _as_sent(found[-1]))


def _descend(trained: Sequence[Tensor], change: list[Tensor], velocity_F: Array, plan: FitPlan) -> Array:
    """The step of `torch_engine`, with a velocity that is a value. The new velocity."""
    weights = [part.detach() for part in trained]
    if plan.weight_decay:
        torch._foreach_add_(change, weights, alpha=plan.weight_decay)
    if plan.momentum:
        flat = (
            torch.zeros(sum(part.numel() for part in weights)) if not len(velocity_F) else torch.from_numpy(velocity_F.copy())
        )
        cut = torch.split(flat.to(weights[0].device), [part.numel() for part in weights])
        velocity = [part.view(weight.shape) for part, weight in zip(cut, weights, strict=True)]
        torch._foreach_mul_(velocity, plan.momentum)
        torch._foreach_add_(velocity, change)
        change, velocity_F = velocity, torch.cat([part.reshape(-1) for part in velocity]).cpu().numpy()
    torch._foreach_add_(weights, change, alpha=-plan.lr)
    return velocity_F


def _built(learner: TorchLearner) -> nn.Sequential:
    with one_job(0):
        module = build(learner.architecture, tuple(learner.shape), len(learner.labels), learner.options)
    if not isinstance(module, nn.Sequential):
        raise ConfigError(
            f"model {learner.architecture!r} cannot be cut: its module is a {type(module).__name__}, and only the layers of an"
            " nn.Sequential stand in one row (mlp, lenet, cnn and resnet8 do)"
        )
    return module


def _as_sent(x: Tensor) -> Array:
    sent = x.permute(0, 2, 3, 1) if x.ndim == 4 else x
    array: Array = sent.contiguous().cpu().numpy().astype(np.float32, copy=False)
    return array
