"""Prometheus' text format, written: families of samples, each with a name, a help text and labels of a bounded number."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_SERIES = 256
"""Of one family; what comes beyond is counted under "other"."""
LATENCIES_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
OTHER = "other"

Labels = tuple[str, ...]


class Family(NamedTuple):
    """Samples of one name; labels are in the order of `labels`."""

    name: str
    sort: Literal["counter", "gauge"]
    help: str
    samples: Iterable[tuple[Labels, float]]
    labels: Labels = ()


class Counts:
    """A counter with labels, bounded."""

    def __init__(self, name: str, help_text: str, labels: Labels = ()) -> None:
        self._name, self._help, self._labels = name, help_text, labels
        self._values: dict[Labels, float] = {}

    def add(self, *labels: str, by: float = 1) -> None:
        """Count `by` more under these labels."""
        if labels not in self._values and len(self._values) >= MAX_SERIES:
            labels = (OTHER,) * len(labels)
        self._values[labels] = self._values.get(labels, 0) + by

    def family(self) -> Family:
        """As it is now."""
        return Family(self._name, "counter", self._help, sorted(self._values.items()), self._labels)


class Histogram:
    """Seconds by one label, bounded, in the buckets LATENCIES_S."""

    def __init__(self, name: str, help_text: str, label: str) -> None:
        self._name, self._help, self._label = name, help_text, label
        self._values: dict[str, tuple[list[int], float]] = {}

    def observe(self, label: str, seconds: float) -> None:
        """Count one more."""
        if label not in self._values and len(self._values) >= MAX_SERIES:
            label = OTHER
        buckets, total_s = self._values.get(label, ([0] * (len(LATENCIES_S) + 1), 0.0))
        buckets[bisect.bisect_left(LATENCIES_S, seconds)] += 1
        self._values[label] = buckets, total_s + seconds

    def lines(self) -> Iterator[str]:
        """The family as text, line by line."""
        yield from _head(self._name, "histogram", self._help)
        for label, (buckets, total_s) in sorted(self._values.items()):
            below = 0
            for bound, count in zip([*LATENCIES_S, float("inf")], buckets, strict=True):
                below += count
                labels = _labels((self._label, "le"), (label, "+Inf" if bound == float("inf") else repr(bound)))
                yield f"{self._name}_bucket{labels} {below}"
            yield f"{self._name}_sum{_labels((self._label,), (label,))} {total_s!r}"
            yield f"{self._name}_count{_labels((self._label,), (label,))} {below}"


def text(families: Iterable[Family], histograms: Iterable[Histogram] = ()) -> str:
    """The whole page."""
    lines: list[str] = []
    for family in families:
        lines += _head(family.name, family.sort, family.help)
        lines += [f"{family.name}{_labels(family.labels, labels)} {_number(found)}" for labels, found in family.samples]
    for histogram in histograms:
        lines += histogram.lines()
    return "\n".join(lines) + "\n"


def one(name: str, sort: Literal["counter", "gauge"], help_text: str, number: float) -> Family:
    """A family without labels."""
    return Family(name, sort, help_text, [((), number)])


def _head(name: str, sort: str, help_text: str) -> list[str]:
    escaped = help_text.replace("\\", "\\\\").replace("\n", "\\n")
    return [f"# HELP {name} {escaped}", f"# TYPE {name} {sort}"]


def _labels(names: Labels, values: Labels) -> str:
    pairs = (f'{name}="{_escaped(found)}"' for name, found in zip(names, values, strict=True))
    return f"{{{','.join(pairs)}}}" if names else ""


def _escaped(found: str) -> str:
    return found.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(found: float) -> str:
    return str(int(found)) if float(found).is_integer() and abs(found) < 2**53 else repr(float(found))
