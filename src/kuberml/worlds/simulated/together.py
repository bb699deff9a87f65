"""Workers that do fits of one shape at once, stacked on the learners' own device: for a GPU (`learning.torch_batch`).

A fit is done when somebody needs its result; others of the same architecture, plan and number of samples that wait by then
join it. Who joins whom cannot show: a group has a fixed size, filled up with copies. The results differ from those of one
fit after the other by rounding, so they are remembered under names of their own (`variant`).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from kuberml.core import values
from kuberml.core.errors import KuberError
from kuberml.core.ids import Digest, digest_of
from kuberml.learning.datasets import samples
from kuberml.learning.jobs import fit
from kuberml.learning.torch_learner import TorchLearner
from kuberml.worlds.simulated.audit import unwatched
from kuberml.worlds.simulated.workers import Here, Ticket

GROUP = 32


class Together(Here):
    """See `workers.Workers`; what is not a fit on one of `devices` is done as by `Here`."""

    def __init__(self, *, devices: tuple[str, ...] = ("cuda",), group: int = GROUP) -> None:
        super().__init__()
        self.variant = f"vmap/{group}".encode()
        self.groups = 0
        """Passes that did more than one fit."""
        self._devices, self._group = devices, group
        self._waiting: dict[Digest, OrderedDict[Ticket, None]] = {}
        self._keys: dict[Ticket, Digest] = {}

    def submit(self, task: bytes) -> Ticket:
        """See Workers; nothing starts yet."""
        ticket = Ticket(task)
        if (key := self._key(task)) is not None:
            self._keys[ticket] = key
            self._waiting.setdefault(key, OrderedDict())[ticket] = None
        return ticket

    def result(self, ticket: Ticket) -> bytes:
        """See Workers."""
        if ticket.reply is None and ticket in self._keys:
            others = [one for one in self._waiting[self._keys[ticket]] if one is not ticket]
            chosen = [ticket, *others[: self._group - 1]]
            for one, reply in zip(chosen, self._done(chosen), strict=True):
                one.reply = reply
                self.drop(one)
        return super().result(ticket)

    def drop(self, ticket: Ticket) -> None:
        """See Workers."""
        key = self._keys.pop(ticket, None)
        if key is not None:
            del self._waiting[key][ticket]
            if not self._waiting[key]:
                del self._waiting[key]

    def _key(self, task: bytes) -> Digest | None:
        """What fits that can be done at once have in common; None: this is none."""
        name, inputs = values.loads(task)
        if name != fit.job_name or not isinstance(inputs[0], TorchLearner):  # type: ignore[attr-defined]  # a job
            return None
        learner, _, data, plan, _ = inputs
        if learner.device.partition(":")[0] not in self._devices:
            return None
        from kuberml.learning.torch_batch import why_not

        return None if why_not(learner) else digest_of(values.dumps([learner, plan, len(data)]))

    def _done(self, chosen: list[Ticket]) -> list[bytes]:
        """A reply to each, or, where the group fails, what each comes to alone: errors are then told by whom they belong to."""
        self._threads.hold()
        try:
            states = unwatched(_fitted, [values.loads(one.task)[1] for one in chosen], self._group)
        except (KuberError, RuntimeError, ValueError):
            return [super(Together, self).result(Ticket(one.task)) for one in chosen]
        self.groups += len(chosen) > 1
        return [values.dumps([True, state]) for state in states]


def _fitted(inputs: list[list[Any]], group: int) -> list[Any]:
    from kuberml.learning.torch_batch import fit_together

    learners, states, data, plans, seeds = zip(*inputs, strict=True)
    return fit_together(learners[0], states, [samples(one) for one in data], plans[0], seeds, group=group)
