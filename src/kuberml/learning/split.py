"""A network cut into parts that live on different machines: what split learning trains.

    parts = cut(learner)                          # front | body
    parts = cut(learner, labels_stay=True)        # front | body | tail: the tail, and with it the labels, stay with the front
    halves = parts.divide(state)                  # {"front": float32 [F], "body": float32 [B]}
    state = parts.join(halves)                    # the inverse, to the bit

Only networks whose layers stand in one row (`torch.nn.Sequential`) can be cut. Importing this module does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from kuberml.core import values
from kuberml.core.errors import ConfigError
from kuberml.core.values import value
from kuberml.learning.learner import Learner
from kuberml.learning.models import need_torch
from kuberml.learning.torch_learner import TorchLearner
from kuberml.learning.types import Array

if TYPE_CHECKING:
    from kuberml.learning.torch_split import Part

PARTS = ("front", "body", "tail")


@value
class Split(msgspec.Struct, frozen=True):
    """Where a network is cut.

    Attributes:
        learner: whose network.
        cuts: names of the layers that begin the second part and, where there is one, the third.
    """

    learner: TorchLearner
    cuts: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parts, in order: "front", "body" and, with two cuts, "tail"."""
        return PARTS[: 1 + len(self.cuts)]

    def part(self, name: str) -> Part:
        """The part's module and where its weights stand in a state."""
        from kuberml.learning import torch_split

        mine = self.learner
        shape, options = tuple(mine.shape), values.dumps(mine.options)
        every = torch_split.parts_of(mine.architecture, shape, len(mine.labels), options, mine.device, tuple(self.cuts))
        return every[self.names.index(name)]

    def divide(self, state_P: Array) -> dict[str, Array]:
        """A state as the states of the parts."""
        return {name: state_P[self.part(name).places_F] for name in self.names}

    def join(self, parts: dict[str, Array]) -> Array:
        """The inverse of `divide`."""
        state_P = np.empty(sum(len(parts[name]) for name in self.names), np.float32)
        for name in self.names:
            state_P[self.part(name).places_F] = parts[name]
        return state_P

    def flops(self, name: str) -> int:
        """Of one sample's way forward through a part."""
        return self.part(name).flops_per_sample


def cut(learner: Learner, at: str = "", *, labels_stay: bool = False) -> Split:
    """Cut a learner's network.

    Args:
        learner: in torch, its module an `nn.Sequential`.
        at: the name of the layer that begins the body ("4" is the fifth of a Sequential without names). Default: the first
            linear layer after a layer with weights, where few numbers pass.
        labels_stay: cut off the last layer with weights as well (U-shaped).

    Raises:
        ConfigError: it cannot be cut there, or at all; the message says why and what would be right.
    """
    if not isinstance(learner, TorchLearner):
        raise ConfigError(
            f"a {type(learner).__name__} cannot be cut: split learning needs learners in torch, for instance 'mlp'"
        )
    need_torch(f"the model {learner.architecture!r}")
    from kuberml.learning import torch_split

    return Split(learner, torch_split.cuts_of(learner, at, labels_stay=labels_stay))
