"""The features of a network: what goes into its last layer with weights. Seen by a hook, so any module has some.

Legend: N samples, B of a batch, C labels, d features.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from kuberml.learning.torch_scratch import Scratch, one_job
from kuberml.learning.types import Array, IntArray

if TYPE_CHECKING:
    from kuberml.learning.feature_prototypes import Prototypes

_BATCH = 256


class Seen:
    """What went into the last layer in the latest call of a module."""

    def __init__(self) -> None:
        self.z_Bd = torch.empty(0)

    def __call__(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """A forward pre-hook."""
        self.z_Bd = inputs[0].flatten(1)


@contextlib.contextmanager
def watched(scratch: Scratch) -> Iterator[Seen]:
    """See what goes into a module's last layer with weights."""
    first = scratch.head[0]
    (layer,) = [one for one in scratch.module.modules() if any(part is first for part in one.parameters(recurse=False))]
    seen = Seen()
    hook = layer.register_forward_pre_hook(seen)
    try:
        yield seen
    finally:
        hook.remove()


def features(scratch: Scratch, state: Array, x_N: Array) -> Array:
    """Features of samples [N, ...], float32 [N, d], in evaluation mode."""
    with one_job(0, scratch.device), torch.inference_mode(), watched(scratch) as seen:
        scratch.load(state)
        scratch.module.eval()
        parts = []
        for start in range(0, max(1, len(x_N)), _BATCH):
            batch = x_N[start : start + _BATCH] if len(x_N) else np.zeros((1, *x_N.shape[1:]), np.float32)
            scratch.module(scratch.inputs(batch))
            parts.append(seen.z_Bd.float().cpu())
        return np.asarray(torch.cat(parts).numpy()[: len(x_N)])


class Guide:
    """FedProto's second loss: weight times the mean squared distance of features from the prototypes of their labels.

    The mean is over all B d numbers of a batch; a sample whose label has no prototype adds 0.
    """

    def __init__(self, seen: Seen, towards: Prototypes, device: str) -> None:
        self._seen, self._weight = seen, towards.weight
        self._prototypes_Cd = torch.from_numpy(np.array(towards.means_Cd, np.float32)).to(device)
        self._known_C = torch.from_numpy(np.array(towards.known_C, np.float32)).to(device)

    def __call__(self, y_B: IntArray) -> Tensor:
        """The loss of the batch that was answered last."""
        y = torch.from_numpy(y_B).to(self._prototypes_Cd.device)
        apart_Bd = (self._seen.z_Bd.float() - self._prototypes_Cd[y]) * self._known_C[y][:, None]
        return self._weight * apart_Bd.square().mean()
