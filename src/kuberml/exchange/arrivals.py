"""A node's own data as they arrive: what is there by now, and each stage when it comes.

A place with data and without stages has one stage: everything, from the beginning.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence

from kuberml.core.units import NS, to_ns
from kuberml.exchange.memory import Memory
from kuberml.exchange.place import LocalData, Place, Stage
from kuberml.learning.views import chosen, joined

BEGAN = "began_ns"
"""In the node's memory: its clock when its part began for the first time. Stages count from it, also after a restart."""


class Arrivals:
    """See the module."""

    def __init__(self, place: Place, memory: Memory) -> None:
        self._place, self._joined = place, (0, place.data)
        stages = place.stages or (() if place.data is None else (Stage(0.0, place.data),))
        self._began_ns: int = memory.get(BEGAN, place.clock.now_ns())
        self._stages = [(self._began_ns + to_ns(stage.at_s), stage) for stage in stages]
        if place.stages:
            with contextlib.suppress(OSError):  # a full disk: a restart begins again
                memory.setdefault(**{BEGAN: self._began_ns})
            place.recorder.record("streaming", began_ns=self._began_ns, stages=len(stages))

    @property
    def so_far(self) -> tuple[Stage, ...]:
        """The stages that have come by now, in order."""
        now_ns = self._place.clock.now_ns()
        return tuple(stage for at_ns, stage in self._stages if at_ns <= now_ns)

    @property
    def data(self) -> LocalData | None:
        """All that has come by now, as one; None: this node never has any."""
        if not self._place.stages:
            return self._place.data
        there = self.so_far
        if self._joined[1] is None or self._joined[0] != len(there):
            self._joined = (len(there), together([stage.data for stage in there]) if there else _nothing_of(self._stages[0][1]))
        return self._joined[1]

    async def each(self) -> AsyncIterator[Stage]:
        """Every stage from the first on: at once if it is past, else when it comes."""
        clock = self._place.clock
        for at_ns, stage in self._stages:
            while (wait_ns := at_ns - clock.now_ns()) > 0:
                await clock.sleep(wait_ns / NS)
            yield stage


def together(parts: Sequence[LocalData]) -> LocalData:
    """Several data of one learner as one; at least one."""
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part.counts)
    train, heldout = joined([part.train for part in parts]), joined([part.heldout for part in parts])
    return LocalData(train, heldout, dict(sorted(counts.items())))


def _nothing_of(stage: Stage) -> LocalData:
    """None of its samples."""
    return LocalData(chosen(stage.data.train, []), chosen(stage.data.heldout, []), {})
