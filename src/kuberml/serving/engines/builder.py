"""From a predictor to the engine that serves it."""

from __future__ import annotations

from kuberml.core.errors import ConfigError, nearest
from kuberml.learning.predictor import Predictor
from kuberml.learning.types import Samples
from kuberml.serving.engines.engine import PRECISIONS, Eager, Engine

ENGINES = ("auto", "eager")


def build(
    predictor: Predictor,
    shape: tuple[int, ...],
    *,
    engine: str = "auto",
    precision: str = "auto",
    calibration: Samples | None = None,
    bound: float = 0.002,
) -> Engine:
    """The engine that answers for a predictor on this machine.

    Args:
        predictor: a head on a frozen extractor, or a learner with its state.
        shape: of one sample.
        engine: "auto", or a runtime by name.
        precision: "auto", or one of PRECISIONS.
        calibration: labelled samples that nobody was trained on: what a reduced precision is set up and proven with.
        bound: of the accuracy that may be lost against the predictor itself, 0..1.

    Raises:
        ConfigError: an engine or precision that is unknown, or that this machine or these samples do not admit; the message
            says why.
    """
    if engine not in ENGINES:
        raise ConfigError(f"engine: unknown {engine!r}; {nearest(engine, ENGINES)}")
    if precision not in ("auto", *PRECISIONS):
        raise ConfigError(f"precision: unknown {precision!r}; {nearest(precision, ('auto', *PRECISIONS))}")
    return Eager(predictor, shape)
