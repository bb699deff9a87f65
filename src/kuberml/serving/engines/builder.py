"""From a predictor to the engine that serves it: tried as far as this CPU allows, proven, timed, and the fastest taken."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from kuberml.core.errors import ConfigError, nearest
from kuberml.core.rng import rng
from kuberml.learning.predictor import Blend, Predictor
from kuberml.learning.types import Array, IntArray, Samples
from kuberml.serving.engines.cpu import ENGINES, Cpu, this_cpu
from kuberml.serving.engines.engine import PRECISIONS, Accelerated, Eager, Engine, mixed
from kuberml.serving.engines.parts import Part, part_of
from kuberml.serving.engines.plan import Candidate, Trial, candidates, chosen
from kuberml.serving.engines.proof import columns, compare, doubt
from kuberml.serving.engines.shelf import Shelf

DRAWN = 64
"""Inputs that are drawn to compare with where no samples are given."""

_shelf = Shelf()
_building = threading.Lock()


@dataclass(frozen=True)
class _Task:
    """What is to be built, and what it is proven with."""

    part: Part
    shape: tuple[int, ...]
    calibration: Samples | None
    targets_N: IntArray | None
    bound: float

    def samples(self, precision: str) -> tuple[Array | None, Array, IntArray | None]:
        """(samples for ranges, samples for the proof, their columns). int8 takes every other one for its ranges."""
        if self.calibration is None or self.targets_N is None:
            return None, rng(0, "engines").random((DRAWN, *self.shape), np.float32), None
        x_N = self.calibration.x_N
        return (x_N[::2], x_N[1::2], self.targets_N[1::2]) if precision.startswith("int8") else (None, x_N, self.targets_N)


def build(
    predictor: Predictor,
    shape: tuple[int, ...],
    *,
    engine: str = "auto",
    precision: str = "auto",
    calibration: Samples | None = None,
    bound: float = 0.002,
    cpu: Cpu | None = None,
) -> Engine:
    """The engine that answers for a predictor on this machine.

    Seconds for a network or extractor that is new (exporting takes them), milliseconds for a new head on a known extractor.

    Args:
        predictor: a head on a frozen extractor, a learner with its state, or a blend.
        shape: of one sample.
        engine: "auto", or a runtime by name.
        precision: "auto", or one of PRECISIONS.
        calibration: labelled samples that nobody was trained on: what a reduced precision is set up and proven with.
        bound: of what may be lost against the predictor itself, 0..1 (see `proof.doubt`).
        cpu: what to go by; None: this machine.

    Raises:
        ConfigError: an engine or precision that is unknown, or that this machine or these samples do not admit; the message
            says why. With "auto" for both, only samples of another shape raise it.
    """
    check_wish(engine, precision, bound)
    if isinstance(predictor, Blend):
        return mixed(predictor, shape, lambda one: build(
            one, shape, engine=engine, precision=precision, calibration=calibration, bound=bound, cpu=cpu))  # fmt: skip
    if engine == "eager" and precision in ("auto", "fp32"):
        return Eager(predictor, shape)
    if calibration is not None and tuple(calibration.x_N.shape[1:]) != tuple(shape):
        raise ConfigError(f"calibration samples have the shape {calibration.x_N.shape[1:]}; the model takes {shape}")
    try:
        targets_N = None if calibration is None else columns(calibration, predictor.labels)
        task = _Task(part_of(predictor, shape), shape, calibration, targets_N, bound)
        with _building:
            return _fastest(predictor, task, candidates(cpu or this_cpu(), engine, precision))
    except ConfigError as error:
        if (engine, precision) != ("auto", "auto"):
            raise
        return Eager(predictor, shape, why=f"eager: {error}")


def check_wish(engine: str, precision: str, bound: float) -> None:
    """Check what is asked for. Raises ConfigError: there is no such engine or precision, or the bound is not in 0..1."""
    if engine not in ("auto", *ENGINES):
        raise ConfigError(f"engine: unknown {engine!r}; {nearest(engine, ('auto', *ENGINES))}")
    if precision not in ("auto", *PRECISIONS):
        raise ConfigError(f"precision: unknown {precision!r}; {nearest(precision, ('auto', *PRECISIONS))}")
    if not 0 < bound <= 1:
        raise ConfigError(f"bound must be above 0 and at most 1, not {bound}")


def _fastest(predictor: Predictor, task: _Task, tried: list[Candidate]) -> Engine:
    best, why, others = chosen([_trial(task, one) for one in tried])
    one = best.candidate
    if one.engine == "eager":
        return Eager(predictor, task.shape, why=why, others=others)
    run = _shelf.get(task.part, task.shape, one, task.samples(one.precision)[0]).run
    assert run is not None
    return Accelerated(run, task.part.finish, task.shape, len(predictor.labels), one.engine, one.precision, why, others)


def _trial(task: _Task, one: Candidate) -> Trial:
    """Make, prove and time a candidate."""
    if one.refusal:
        return Trial(one, one.refusal)
    ranges_N, x_N, targets_N = task.samples(one.precision)
    made = _shelf.get(task.part, task.shape, one, ranges_N)
    if made.run is None:
        return Trial(one, made.why_not)
    if one.engine == "eager":
        return Trial(one, "", None, made.speed(task.shape))
    reference = _shelf.get(task.part, task.shape, Candidate("eager", "fp32"), None)
    try:
        answers_NC, wanted_NC = (task.part.finish(each.outputs(x_N)) for each in (made, reference))
    except Exception as error:  # runtimes compile at the first call of a shape, and raise of everything
        return Trial(one, f"it fails: {type(error).__name__}: {error!s:.200}")
    proof = compare(answers_NC, wanted_NC, targets_N)
    why_not = doubt(proof, task.bound, exact=one.precision == "fp32")
    return Trial(one, why_not, proof, None if why_not else made.speed(task.shape))
