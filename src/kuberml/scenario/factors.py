"""The five factors as words: accuracy, time, bytes, flops, energy (and latency, freshness), for terminals, pages and tables."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from kuberml.core.units import show_bytes, show_seconds
from kuberml.scenario.result import ParadigmResult

NONE = "–"
"""What stands for a number that there is none of."""


class Factor(msgspec.Struct, frozen=True):
    """A column: its heading, and the value of a paradigm with its deviation over seeds."""

    heading: str
    field: str
    show: Callable[[float], str]
    show_std: Callable[[float], str]

    def value(self, result: ParadigmResult) -> str:
        """The value for people."""
        number = getattr(result, self.field)
        return NONE if number is None else self.show(number)

    def spread(self, result: ParadigmResult) -> str:
        """± its deviation over seeds; "" where there is none."""
        number, centre = getattr(result, f"{self.field}_std"), getattr(result, self.field)
        if number is None:
            return ""
        return "± 0" if number <= 1e-9 * abs(centre or 0) else f"± {self.show_std(number)}"


def show_accuracy(share: float) -> str:
    """87.3 %."""
    return f"{100 * share:.1f} %"


def show_count(number: float) -> str:
    """12.3 G: a large number with the prefix of the International System."""
    for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.3g} {prefix}"
    return f"{number:.3g}"


def show_joules(energy_j: float) -> str:
    """1.2 kJ."""
    return f"{show_count(energy_j)}{'' if energy_j >= 1e3 else ' '}J"


def show_ms(latency_ms: float) -> str:
    """Milliseconds for people, as ms or s."""
    return show_seconds(latency_ms / 1e3)


def _points(share: float) -> str:
    return f"{100 * share:.1f}"


FACTORS = (
    Factor("accuracy, mean", "accuracy_mean", show_accuracy, _points),
    Factor("worst tenth", "accuracy_p10", show_accuracy, _points),
    Factor("on own mix", "accuracy_own", show_accuracy, _points),
    Factor("on slow devices' data", "accuracy_slow", show_accuracy, _points),
    Factor("better on fast ones' by", "bias", _points, _points),
    Factor("own network", "accuracy_network", show_accuracy, _points),
    Factor("time", "virtual_time_s", show_seconds, show_seconds),
    Factor("time to target", "time_to_target_s", show_seconds, show_seconds),
    Factor("bytes", "bytes_moved", show_bytes, show_bytes),
    Factor("bytes to target", "bytes_to_target", show_bytes, show_bytes),
    Factor("flops", "flops", show_count, show_count),
    Factor("energy", "energy_j", show_joules, show_joules),
    Factor("pooled reference", "accuracy_pooled_reference", show_accuracy, _points),
    Factor("regret", "regret", show_accuracy, _points),
)


def known_factors(results: dict[str, ParadigmResult]) -> list[Factor]:
    """The columns in which at least one paradigm has a number."""
    return [factor for factor in FACTORS if any(getattr(result, factor.field) is not None for result in results.values())]


def latency(result: ParadigmResult) -> str:
    """Median and p99 of a prediction."""
    p50_ms, p99_ms = result.latency_p50_ms, result.latency_p99_ms
    return NONE if p50_ms is None or p99_ms is None else f"{show_ms(p50_ms)} / {show_ms(p99_ms)}"


def freshness(result: ParadigmResult) -> str:
    """Median and p99 of learned at A -> used at B."""
    median, p99 = result.freshness_s.median, result.freshness_s.p99
    return NONE if median is None or p99 is None else f"{show_seconds(median)} / {show_seconds(p99)}"
