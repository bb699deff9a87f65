"""How often each weight of a network is multiplied in one forward pass: what pruning it saves."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor, nn

from kuberml.core.values import dumps, loads
from kuberml.learning.torch_learner import TorchLearner
from kuberml.learning.torch_scratch import fresh, one_job
from kuberml.learning.types import Array


def uses(learner: TorchLearner) -> Array:
    """Float32 [P]: positions of a convolution's kernel, 1 for a matrix, 0 for biases and norms, -1 for running statistics.

    In a network that multiplies outside plain layers every weight of two axes or more counts once.
    """
    return _uses(dumps(learner))


@functools.lru_cache(maxsize=32)
def _uses(described: bytes) -> Array:
    learner: TorchLearner = loads(described)
    found: dict[str, int] = {}

    def count(name: str, layer: nn.Module, out: Tensor) -> None:
        found[f"{name}.weight"] = out.numel() // layer.get_parameter("weight").shape[0]

    with one_job(0), torch.no_grad():
        scratch = fresh(learner)
        scratch.module.eval()
        for name, layer in scratch.module.named_modules():
            if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
                layer.register_forward_hook(lambda layer, _, out, name=name: count(name, layer, out))
        scratch.module(scratch.inputs(np.zeros((1, *learner.shape), np.float32)))
    weights = dict(scratch.module.named_parameters())
    plain = sum(2 * times * weights[name].numel() for name, times in found.items()) == learner.flops_per_sample
    parts = []
    for name, shape in scratch.layout:
        times = -1 if name not in weights else found.get(name, 0) if plain else int(len(shape) > 1)
        parts.append(np.full(math.prod(shape), times, np.float32))
    found_P = np.concatenate(parts)
    found_P.flags.writeable = False
    return found_P
