"""Engines: the same answers as a predictor, as fast as this machine gives them. `build` is the one way in.

`build(predictor, shape)` always gives an engine: where nothing faster is installed, admissible and proven, it is the predictor
itself ("eager"). What is chosen and why is in `Engine.why`, why not the rest in `Engine.others`; `kuberml doctor`
says it of a machine.
"""

from __future__ import annotations

from kuberml.serving.engines.builder import build
from kuberml.serving.engines.engine import Engine

__all__ = ["Engine", "build"]
