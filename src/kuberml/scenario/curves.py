"""Curves of runs: where a target was reached, and one curve over several seeds."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TypeVar

from kuberml.scenario.run_summary import CurvePoint
from kuberml.scenario.served_result import ServedPoint
from kuberml.scenario.spread import deviation, mean

MAX_POINTS = 60

P = TypeVar("P", bound=CurvePoint | ServedPoint)


def reached(curve: Sequence[CurvePoint], accuracy: float) -> CurvePoint | None:
    """The first measured point at or over `accuracy`; None if there is none. Nothing is interpolated: it was measured then."""
    return next((point for point in curve if point.accuracy_mean >= accuracy), None)


def best(curve: Sequence[CurvePoint]) -> float | None:
    """The highest accuracy on the curve; None if it is empty."""
    return max((point.accuracy_mean for point in curve), default=None)


def at_time(curve: Sequence[P], time_s: float) -> P:
    """The last measurement at or before `time_s` (the first one before that): a run stands where it was last measured."""
    position = bisect_right(curve, time_s, key=lambda point: point.time_s) - 1
    return curve[max(position, 0)]


def combine(curves: Sequence[Sequence[P]]) -> tuple[tuple[P, ...], tuple[P, ...] | None]:
    """Mean curve over seeds and its sample deviation, on the union of the measured times (thinned to MAX_POINTS).

    The deviation is None for one seed. Without any measurement both are empty.
    """
    measured = [curve for curve in curves if curve]
    if not measured:
        return (), None
    times_s = _thin(sorted({point.time_s for curve in measured for point in curve}))
    points = [[at_time(curve, time_s) for curve in measured] for time_s in times_s]
    means = tuple(_point(time_s, row, mean) for time_s, row in zip(times_s, points, strict=True))
    if len(measured) < 2:
        return means, None
    return means, tuple(_point(time_s, row, deviation) for time_s, row in zip(times_s, points, strict=True))


def _point(time_s: float, row: list[P], statistic: Callable[[list[float]], float | None]) -> P:
    kind = type(row[0])
    names = [name for name in kind.__struct_fields__ if name != "time_s"]
    return kind(time_s, **{name: statistic([getattr(point, name) for point in row]) or 0.0 for name in names})


def _thin(times_s: list[float]) -> list[float]:
    if len(times_s) <= MAX_POINTS:
        return times_s
    last = len(times_s) - 1
    return [times_s[round(i * last / (MAX_POINTS - 1))] for i in range(MAX_POINTS)]
