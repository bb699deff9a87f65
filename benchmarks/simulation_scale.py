"""The parts of `simulation.py` that have no peer: many learners, the empty loop, cost per learner."""

from __future__ import annotations

SLICES = {}
