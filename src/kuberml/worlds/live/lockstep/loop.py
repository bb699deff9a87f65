"""The loop of a node's own process: where the simulated loop would go on to the next node, it waits at a barrier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from kuberml.worlds.simulated.calls import Timer
from kuberml.worlds.simulated.lockstep_loop import LETTERS, LockstepLoop


class Next(NamedTuple):
    """What comes after a barrier: a step with these letters, or, with `step` None, the end at `time_ns`."""

    step: int | None
    letters: Sequence[bytes] = ()
    time_ns: int = 0


class BarrierLoop(LockstepLoop):
    """A `LockstepLoop` that leaves a step only when it is told to.

    Attributes:
        barrier: called with when this node is due next (None: never by itself) as soon as nothing is left to do in a step.
        receive: called with each letter.
        end: called when it is over; timers fire freely from then on, so that what is cancelled can end.
    """

    def __init__(self, step_ns: int) -> None:
        super().__init__(step_ns)
        self.barrier: Callable[[int | None], Next]
        self.receive: Callable[[bytes], None]
        self.end: Callable[[], None]
        self._is_over = False
        self._step_ends_ns = step_ns

    def _cancel_all(self) -> None:
        self._is_over = True  # whatever ended the run: those who wait for us at the barrier are told by who runs the loop
        super()._cancel_all()

    def _next_due(self) -> Timer | None:
        while not self._is_over:
            due_ns = self.next_due_ns()
            if due_ns is not None and due_ns < self._step_ends_ns:
                break
            following = self.barrier(due_ns)
            if following.step is None:
                self._is_over, self.now_ns = True, following.time_ns
                self.end()
                return None
            begins_ns = following.step * self.step_ns
            self._step_ends_ns = begins_ns + self.step_ns
            for place, letter in enumerate(following.letters):
                self.first_at_ns(begins_ns, LETTERS + place, self.receive, letter)
        return super()._next_due()
