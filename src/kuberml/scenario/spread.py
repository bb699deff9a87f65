"""Means over seeds and how far they can be trusted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from kuberml.scenario.result import Interval

# Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom (any table of the distribution).
_T_95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


def t_95(freedom: int) -> float:
    """Two-sided 95 % quantile of Student's t; beyond 30 degrees of freedom 1.96 + 2.4/n, right to 0.001."""
    return _T_95[freedom - 1] if freedom <= len(_T_95) else 1.96 + 2.4 / freedom


def mean(samples: Iterable[float | None]) -> float | None:
    """Mean of the samples; None if there are none or one of them was not measured."""
    known = _all_known(samples)
    return math.fsum(known) / len(known) if known else None


def deviation(samples: Iterable[float | None]) -> float | None:
    """Sample standard deviation (n - 1); None for fewer than two samples or if one was not measured."""
    known = _all_known(samples)
    if known is None or len(known) < 2:
        return None
    centre = math.fsum(known) / len(known)
    return math.sqrt(math.fsum((sample - centre) ** 2 for sample in known) / (len(known) - 1))


def interval_95(samples: Sequence[float]) -> Interval | None:
    """95 % confidence interval of the mean (Student's t over seeds); None for fewer than two samples."""
    centre, std = mean(samples), deviation(samples)
    if centre is None or std is None:
        return None
    half = t_95(len(samples) - 1) * std / math.sqrt(len(samples))
    return Interval(centre - half, centre + half)


def overlap(a: Interval | None, b: Interval | None) -> bool:
    """Whether two intervals share a point. An unknown interval overlaps with everything: one seed decides nothing."""
    return a is None or b is None or (a.low <= b.high and b.low <= a.high)


def percentile(samples: Sequence[float], percent: float) -> float | None:
    """The smallest sample that `percent` of all samples do not exceed (nearest rank); None without samples."""
    if not samples:
        return None
    return float(np.percentile(np.asarray(samples, dtype=np.float64), percent, method="inverted_cdf"))


def _all_known(samples: Iterable[float | None]) -> list[float] | None:
    known: list[float] = []
    for sample in samples:
        if sample is None or math.isnan(sample):
            return None
        known.append(sample)
    return known or None
