"""Steering: what pulls a fit besides its own loss, so that one training engine serves every paradigm that corrects its clients.

At every step the gradient g of the loss, weight decay included, becomes

    mask_P * (g + proximal (w - anchor_P) + shift_P)

before momentum and the learning rate: the pull is a part of the gradient. FedProx has a proximal term, SCAFFOLD a shift, sparse
training a mask.
"""

from __future__ import annotations

import inspect
import math
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from kuberml.core.errors import ConfigError
from kuberml.core.values import value
from kuberml.learning.learner import Learner, SoftTargets
from kuberml.learning.types import Array, FitPlan, Samples


@value
class Steering(msgspec.Struct, frozen=True, eq=False):
    """See the module. Vectors are as long as a state, P; what a state holds besides weights (running statistics) is not pulled.

    Attributes:
        proximal: >= 0; the loss gains proximal / 2 * |w - anchor_P|^2.
        anchor_P: float32 [P]; None: the state that the fit starts from.
        shift_P: float32 [P], added to every gradient; None: nothing.
        mask_P: bool [P]; where it is False a weight stays as it is. None: all of them move.
    """

    proximal: float = 0.0
    anchor_P: Array | None = None
    shift_P: Array | None = None
    mask_P: npt.NDArray[np.bool_] | None = None

    def check(self, count: int) -> None:
        """Check it against a state of `count` numbers.

        Raises:
            ConfigError: a vector has another length or dtype, or `proximal` is negative or not finite.
        """
        if not (self.proximal >= 0 and math.isfinite(self.proximal)):
            raise ConfigError(f"steering: proximal must be 0 or more and finite, not {self.proximal!r}")
        wanted = {"anchor_P": np.float32, "shift_P": np.float32, "mask_P": np.bool_}
        for name, dtype in wanted.items():
            vector = getattr(self, name)
            if vector is not None and (vector.shape != (count,) or vector.dtype != dtype):
                right = f"{np.dtype(dtype).name} [{count}], as long as a state"
                raise ConfigError(f"steering: {name} must be {right}, not {vector.dtype} {list(vector.shape)}")

    def pulled(self, gradient_P: Array, weights_P: Array, start_P: Array) -> Array:
        """The gradient to go down, float32 [P], at `weights_P` in a fit that began at `start_P`: for learners in numpy."""
        if self.proximal:
            anchor_P = start_P if self.anchor_P is None else self.anchor_P
            gradient_P = gradient_P + np.float32(self.proximal) * (weights_P - anchor_P)
        if self.shift_P is not None:
            gradient_P = gradient_P + self.shift_P
        return gradient_P if self.mask_P is None else gradient_P * self.mask_P


class Steerable(Learner, Protocol):
    """A learner whose fit can be steered."""

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
        """See `Learner.fit`. Raises ConfigError: the steering is not of this learner's states."""
        ...


def steerable(learner: Learner) -> Steerable:
    """The same learner, known to take a steering.

    Raises:
        ConfigError: its fit has no gradient to pull on, or does not say that it takes one.
    """
    if "steering" not in inspect.signature(learner.fit).parameters:
        raise ConfigError(
            f"a {type(learner).__name__} cannot be steered: fedprox, scaffold and their like need a learner whose fit takes"
            " `steering` (TorchLearner and HeadLearner do)"
        )
    return learner  # type: ignore[return-value]  # its fit takes one more keyword
