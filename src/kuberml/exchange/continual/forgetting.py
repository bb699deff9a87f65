"""What was forgotten, line by line: the accuracy matrix over versions, a line for each task on the probe and for each edge.

A task is a group of labels that came together, measured on the public probe. An edge is a domain of its own: what it said,
signed, of its held-out samples, where `Rules.evaluate` lets edges try each version. So a domain is seen though no public sample
has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from kuberml.exchange.continual.history import Entry
from kuberml.exchange.continual.measuring import tasks
from kuberml.learning.continual import forgotten

Heard = Mapping[str, tuple[int, int]]
"""What edges said of a version: (samples, right answers) by public key."""


class Line(msgspec.Struct, frozen=True):
    """One line of the matrix.

    Attributes:
        of: whether it is a task's or an edge's.
        name: labels, with commas; or the edge's public key.
        accuracy: after each version, oldest first; None: not known then.
        forgotten: the best since it was first known, less the last that is known; 0..1.
    """

    of: Literal["task", "edge"]
    name: str
    accuracy: tuple[float | None, ...]
    forgotten: float


def by_task(entries: Sequence[Entry]) -> list[Line]:
    """A line for each task, from recalls on the probe; tasks in the order in which they came."""
    found = []
    for step, group in tasks([entry.labels for entry in entries]):
        rows = [[entry.recall[label] for label in group if label in entry.recall] for entry in entries]
        known = [float(np.mean(row)) if row and t >= step else None for t, row in enumerate(rows)]
        found += _line("task", ",".join(group), known)
    return found


def by_edge(heard: Sequence[Heard]) -> list[Line]:
    """A line for each edge that has tried a version; `heard`: version by version."""
    found = []
    for edge in sorted({edge for said in heard for edge in said}):
        pairs = [said.get(edge, (0, 0)) for said in heard]
        found += _line("edge", edge, [right / count if count else None for count, right in pairs])
    return found


def _line(of: Literal["task", "edge"], name: str, known: list[float | None]) -> list[Line]:
    accuracy_T = np.array([np.nan if one is None else one for one in known])
    return [Line(of, name, tuple(known), forgotten(accuracy_T))] if np.isfinite(accuracy_T).any() else []
