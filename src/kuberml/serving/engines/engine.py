"""What an engine is, and the one that always works: the predictor itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np

from kuberml.core.errors import ConfigError
from kuberml.learning.predictor import Predictor
from kuberml.learning.types import Array

Precision = Literal["fp32", "bf16", "int8", "int8-reduced"]
"""What products are computed in. int8-reduced: weights of 7 bits, for CPUs whose byte products saturate."""
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


class Engine(Protocol):
    """Answers samples of one shape. Several threads may ask at once."""

    @property
    def name(self) -> str:
        """Which runtime: "eager", "torch", "compiled", "onnx", "openvino"."""
        ...

    @property
    def precision(self) -> str:
        """What its products are computed in: one of PRECISIONS."""
        ...

    @property
    def why(self) -> str:
        """Why this one, and why not the others: a line for people."""
        ...

    def predict(self, x_N: Array) -> Array:
        """Log-probabilities, float32 [N, C], of inputs float32 [N, ...]; N may be 0.

        Raises:
            ConfigError: inputs of another shape than it was built for.
        """
        ...


@dataclass(frozen=True)
class Eager:
    """The predictor itself: exact by definition, and the reference of all others."""

    predictor: Predictor
    shape: tuple[int, ...]
    why: str = "asked for"
    name: str = "eager"
    precision: str = "fp32"

    def predict(self, x_N: Array) -> Array:
        """As the predictor answers."""
        return self.predictor.predict(check_inputs(x_N, self.shape))


def check_inputs(x_N: Array, shape: tuple[int, ...]) -> Array:
    """The inputs as contiguous float32. Raises ConfigError: they are not [N, *shape]."""
    if tuple(x_N.shape[1:]) != tuple(shape):
        raise ConfigError(f"samples have the shape {tuple(x_N.shape[1:])}; this model takes {tuple(shape)}")
    return np.ascontiguousarray(x_N, np.float32)
