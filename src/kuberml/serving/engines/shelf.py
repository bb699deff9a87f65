"""What was compiled is kept: a new head on a known extractor is served without compiling, proving takes no forward pass."""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

import numpy as np

from kuberml.core.errors import ConfigError
from kuberml.core.ids import Digest
from kuberml.core.values import digest
from kuberml.learning.types import Array
from kuberml.serving.engines.cpu import threads_here
from kuberml.serving.engines.engine import Precision
from kuberml.serving.engines.graphs import Graphs
from kuberml.serving.engines.parts import Part
from kuberml.serving.engines.plan import Candidate
from kuberml.serving.engines.runtimes import Run, make
from kuberml.serving.engines.timing import Speed, speed_of

KEPT = 4
"""Parts whose forms are kept, each with its weights once for every runtime."""


class Made:
    """A runtime's function of a part, or why there is none."""

    def __init__(self, run: Run | None, why_not: str = "") -> None:
        self.run, self.why_not = run, why_not
        self._speed: Speed | None = None
        self._outputs: tuple[Digest | None, Array] = (None, np.empty((0, 0), np.float32))

    def outputs(self, x_N: Array) -> Array:
        """Its outputs for samples; those of the last call are remembered."""
        assert self.run is not None
        name = digest(x_N)
        if self._outputs[0] != name:
            self._outputs = (name, self.run(np.ascontiguousarray(x_N, np.float32)))
        return self._outputs[1]

    def speed(self, shape: tuple[int, ...]) -> Speed:
        """Measured once."""
        assert self.run is not None
        self._speed = self._speed or speed_of(self.run, shape)
        return self._speed


class Shelf:
    """Forms of the parts that were last asked for. Not for several threads at once."""

    def __init__(self) -> None:
        self._parts: OrderedDict[Digest, tuple[dict[tuple[object, ...], Made], list[Graphs]]] = OrderedDict()

    def get(self, part: Part, shape: tuple[int, ...], one: Candidate, calibration_N: Array | None) -> Made:
        """A runtime's function of a part: kept, or made now.

        Args:
            part: what is computed.
            shape: of one sample.
            one: runtime and precision; "eager" is the part's reference.
            calibration_N: samples for the ranges of int8.
        """
        made, graphs = self._parts.setdefault(part.key, ({}, []))
        self._parts.move_to_end(part.key)
        while len(self._parts) > KEPT:
            self._parts.popitem(last=False)
        ranges = None if calibration_N is None else digest(calibration_N)
        key = (shape, one.engine, one.precision, threads_here(), ranges)
        if key not in made:
            made[key] = self._make(part, shape, one, graphs, calibration_N)
        return made[key]

    def _make(
        self, part: Part, shape: tuple[int, ...], one: Candidate, graphs: list[Graphs], calibration_N: Array | None
    ) -> Made:
        if one.engine == "eager":
            return Made(part.reference)
        try:
            if not graphs:
                graphs.append(Graphs(part.form(), shape))
            return Made(make(one.engine, cast(Precision, one.precision), graphs[0], calibration_N, threads_here()))
        except ConfigError as error:
            return Made(None, str(error))
