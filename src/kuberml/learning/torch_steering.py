"""A steering on a torch module's parameters: see `steering`. Nothing here runs where a fit is not steered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kuberml.learning.steering import Steering
from kuberml.learning.torch_scratch import Scratch
from kuberml.learning.types import Array


class Pull:
    """One fit's pull, cut as the parameters that it trains."""

    def __init__(self, steering: Steering, scratch: Scratch, parameters: Sequence[Tensor], start_P: Array) -> None:
        """Raises ConfigError: the steering is not of states of this module."""
        steering.check(scratch.size)
        anchor_P = start_P if steering.anchor_P is None else steering.anchor_P
        self._proximal = steering.proximal
        self._anchor = _cut(anchor_P, scratch, parameters) if steering.proximal else []
        self._shift = _cut(steering.shift_P, scratch, parameters) if steering.shift_P is not None else []
        self._mask = _cut(steering.mask_P.astype(np.float32), scratch, parameters) if steering.mask_P is not None else []

    def __call__(self, gradients: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
        """The gradients to go down. New tensors: autograd may give one tensor as the gradient of two parameters."""
        if self._anchor:
            gradients = list(torch._foreach_add(gradients, torch._foreach_sub(weights, self._anchor), alpha=self._proximal))
        if self._shift:
            gradients = list(torch._foreach_add(gradients, self._shift))
        return list(torch._foreach_mul(gradients, self._mask)) if self._mask else gradients


def _cut(vector_P: Array, scratch: Scratch, parameters: Sequence[Tensor]) -> list[Tensor]:
    """A vector [P] as tensors of the parameters' shapes: they are views into one flat buffer, in the order of a state."""
    flat = torch.from_numpy(np.array(vector_P, np.float32)).to(scratch.device)
    starts = [int(part.storage_offset()) for part in parameters]
    return [flat[start : start + part.numel()].view(part.shape) for start, part in zip(starts, parameters, strict=True)]
