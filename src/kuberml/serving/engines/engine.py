"""What an engine is: the predictor itself, which always works; a runtime; or two engines for the two sides of a blend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np

from kuberml.core.errors import ConfigError
from kuberml.core.ids import LabelId
from kuberml.learning.predictor import Blend, Predictor
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
        """Why this one: a line for people."""
        ...

    @property
    def others(self) -> str:
        """Why not the others, which may be long; "": there were none."""
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
    others: str = ""

    def predict(self, x_N: Array) -> Array:
        """As the predictor answers."""
        return self.predictor.predict(check_inputs(x_N, self.shape))


def check_inputs(x_N: Array, shape: tuple[int, ...]) -> Array:
    """The inputs as contiguous float32. Raises ConfigError: they are not [N, *shape]."""
    if tuple(x_N.shape[1:]) != tuple(shape):
        raise ConfigError(f"samples have the shape {tuple(x_N.shape[1:])}; this model takes {tuple(shape)}")
    return np.ascontiguousarray(x_N, np.float32)


@dataclass(frozen=True)
class Accelerated:
    """A runtime's function of the part that costs, and what makes log-probabilities of its outputs."""

    run: Callable[[Array], Array]
    finish: Callable[[Array], Array]
    shape: tuple[int, ...]
    labels: int
    name: str
    precision: str
    why: str
    others: str = ""

    def predict(self, x_N: Array) -> Array:
        """As the predictor answers, up to the rounding that was proven."""
        checked_N = check_inputs(x_N, self.shape)
        if not len(checked_N):
            return np.empty((0, self.labels), np.float32)
        return self.finish(self.run(checked_N))


@dataclass(frozen=True)
class Mixed:
    """A blend whose two predictors are answered by engines."""

    blend: Blend
    shape: tuple[int, ...]
    name: str
    precision: str
    why: str
    others: str = ""

    def predict(self, x_N: Array) -> Array:
        """As the blend answers."""
        return self.blend.predict(check_inputs(x_N, self.shape))


@dataclass(frozen=True)
class Answering:
    """An engine in the place of its predictor."""

    engine: Engine
    labels: tuple[LabelId, ...]
    flops_per_sample: int

    def predict(self, x_N: Array) -> Array:
        """The engine's answers."""
        return self.engine.predict(x_N)


def mixed(blend: Blend, shape: tuple[int, ...], engine_of: Callable[[Predictor], Engine]) -> Mixed:
    """A blend with an engine for each of its predictors. Raises ConfigError: `engine_of` does."""
    parts = [(one, engine_of(one)) for one in (blend.first, blend.second)]
    first, second = (Answering(engine, one.labels, one.flops_per_sample) for one, engine in parts)
    said = (
        " and ".join(dict.fromkeys(getattr(engine, field) for _, engine in parts))
        for field in ("name", "precision", "why", "others")
    )
    return Mixed(Blend(first, second, blend.share), shape, *said)
