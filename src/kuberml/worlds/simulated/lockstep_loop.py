"""The loop of schedule = "lockstep": virtual time in steps, so that a run comes out the same in any world that keeps them.

Laws, over those of `VirtualLoop`
    What is sent during a step arrives when the next one begins, in an order that depends on senders and numbers only.
    At that instant letters come before timers, whatever was scheduled when.
    Within a step nothing passes between nodes, so it does not matter whether they share a loop, a process or a machine.
    A run ends at the end of a step.
"""

from __future__ import annotations

import contextvars
import heapq
from collections import Counter
from collections.abc import Callable
from typing import Any

from kuberml.core.errors import ConfigError
from kuberml.worlds.simulated.calls import Timer
from kuberml.worlds.simulated.loop import NodeTask, VirtualLoop

STEP_NS = 10_000_000
"""A step: 10 ms, what a message takes at most. Longer steps let more of the nodes of a live run work at the same time."""

END, SORTING, LETTERS = 0, 1, 2
"""Ranks of what happens when a step begins; letters have LETTERS, LETTERS + 1, ..."""

_FIRST = -(2**62)


class LockstepLoop(VirtualLoop):
    """See the module.

    Raises:
        ConfigError: a step is at least a nanosecond.
    """

    def __init__(self, step_ns: int = STEP_NS) -> None:
        super().__init__()
        self.step_ns = step_ns
        self._tasks_of: Counter[str] = Counter()
        self._context = contextvars.Context()  # letters and ends belong to no node
        if step_ns < 1:
            raise ConfigError(f"step_ns = {step_ns}: a step takes at least one nanosecond")

    @property
    def next_step_ns(self) -> int:
        """When the step after the current one begins."""
        return (self.now_ns // self.step_ns + 1) * self.step_ns

    def place_of_task(self, task: NodeTask) -> int:
        """A number among the tasks of its own node: other nodes must not show, here they may be in other processes."""
        self._tasks_of[task.node] += 1
        return self._tasks_of[task.node]

    def at_step_end(self, callback: Callable[..., object], *args: Any) -> None:
        """Call back before anything else that happens when the next step begins."""
        self.first_at_ns(self.next_step_ns, END, callback, *args)

    def first_at_ns(self, when_ns: int, rank: int, callback: Callable[..., object], *args: Any) -> Timer:
        """Call back at `when_ns` before every timer of that instant; among such calls the lower rank first."""
        return self._push(max(when_ns, self.now_ns), _FIRST + rank, callback, args, self._context)

    def next_due_ns(self) -> int | None:
        """When the next timer is due; None: no timer is set."""
        timers = self._timers
        while timers and timers[0][2].is_cancelled:
            heapq.heappop(timers)[2].pending = False
            self._dead_timers -= 1
        return timers[0][0] if timers else None
