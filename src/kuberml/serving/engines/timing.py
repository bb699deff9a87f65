"""How fast a function of samples is here: a short look, enough to choose by; benchmarks/serving.py measures."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from kuberml.learning.types import Array
from kuberml.serving.engines.runtimes import Run

SOME = 16
"""Samples of the larger batch: what requests that arrive together amount to."""
LOOK_S = 0.15
"""Time given to each batch size, but at least three calls."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Median seconds of a call.

    Attributes:
        one_s: of one sample.
        some_s: of SOME samples.
    """

    one_s: float
    some_s: float

    @property
    def score_s(self) -> float:
        """The geometric mean of the time of a sample alone and of one in a batch: less is better."""
        return float(np.sqrt(self.one_s * self.some_s / SOME))


def speed_of(run: Run, shape: tuple[int, ...]) -> Speed:
    """Look at a function. Takes about twice LOOK_S."""
    return Speed(*(_median_s(run, np.full((count, *shape), 0.5, np.float32)) for count in (1, SOME)))


def _median_s(run: Run, x_N: Array) -> float:
    run(x_N)  # the first call of a shape allocates
    took_s: list[float] = []
    until_s = time.perf_counter() + LOOK_S
    while len(took_s) < 3 or time.perf_counter() < until_s:
        start_s = time.perf_counter()
        run(x_N)
        took_s.append(time.perf_counter() - start_s)
    return float(np.median(took_s))
