"""The conductor: says when which step begins and which letters lie in whose inbox. It never sees a letter's content.

Conservative: a step begins when everybody has reported the one before. Nodes that have nothing due in a step are not asked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from kuberml.core.errors import InternalError
from kuberml.core.ids import NodeId
from kuberml.worlds.live.lockstep.orders import Attend, Begin, End, Final, Name, Order, Report, Step, Told

Ask = Callable[[Mapping[NodeId, Order]], Mapping[NodeId, Told]]
"""Gives several nodes their orders at once and returns what they told. Raises what broke a node."""


class Ended(NamedTuple):
    """How a play ended: when (virtual), whether all waited for had ended, in how many steps, and who said what last."""

    time_ns: int
    finished: bool
    steps: int
    finals: dict[NodeId, bytes]


class Conductor:
    """See the module. It conducts several plays, one after the other."""

    def __init__(self, ask: Ask, step_ns: int) -> None:
        self._ask, self._step_ns = ask, step_ns
        self._serial = self._plays = 0

    def conduct(self, bodies: Mapping[NodeId, bytes], *, waited: Collection[NodeId], until_ns: int | None) -> Ended:
        """One play.

        Args:
            bodies: what each node is told to play.
            waited: who must have ended before it is over.
            until_ns: virtual time at which it is over anyway.

        Raises:
            InternalError: nobody has anything to do, and the play is not over.
            Whatever breaks a node.
        """
        self._plays += 1
        due_ns: dict[NodeId, int | None] = {}
        over: set[NodeId] = set()
        step, steps = 0, 1
        self._ask({node: Attend(self._next_serial()) for node in bodies})
        inbox = self._exchange(
            {node: Begin(self._next_serial(), self._plays, self._step_ns, body) for node, body in bodies.items()}, due_ns, over
        )
        while not over.issuperset(waited):
            following = self._following(step, inbox, due_ns, until_ns)
            if following is None:
                break
            step, steps = following, steps + 1
            ends_ns = (step + 1) * self._step_ns
            asked = [node for node, due in due_ns.items() if node in inbox or (due is not None and due < ends_ns)]
            orders = {node: Step(self._next_serial(), step, tuple(sorted(inbox.get(node, ())))) for node in asked}
            inbox = self._exchange(orders, due_ns, over)
        else:
            return self._end(list(bodies), (step + 1) * self._step_ns, True, steps)
        assert until_ns is not None, "only time itself ends a play before its nodes do"
        return self._end(list(bodies), (until_ns // self._step_ns + 1) * self._step_ns, False, steps)

    def _following(
        self, step: int, inbox: Mapping[NodeId, list[Name]], due_ns: Mapping[NodeId, int | None], until_ns: int | None
    ) -> int | None:
        """The next step in which anything happens; None: time is up before."""
        timers = [due // self._step_ns for due in due_ns.values() if due is not None]
        following = step + 1 if inbox else min(timers, default=None)
        if following is None and until_ns is None:
            raise InternalError(f"deadlock in step {step}: no timer is set and no letter is on its way, but nobody has ended")
        return None if following is None or (until_ns is not None and following > until_ns // self._step_ns) else following

    def _exchange(
        self, orders: Mapping[NodeId, Order], due_ns: dict[NodeId, int | None], over: set[NodeId]
    ) -> dict[NodeId, list[Name]]:
        """Let nodes do a step. Returns what lies in whose inbox when the next one begins."""
        inbox: dict[NodeId, list[Name]] = {}
        told = self._ask(orders)
        due_ns.update({node: report.due_ns for node, report in told.items() if isinstance(report, Report)})
        for node, report in told.items():
            if not isinstance(report, Report):
                raise InternalError(f"{node} was told to do a step and answered with {type(report).__name__}")
            if report.is_over:
                over.add(node)
            for sent in report.sent:
                receivers = [sent.to] if sent.to is not None else [other for other in due_ns if other != node]
                for receiver in receivers:
                    inbox.setdefault(receiver, []).append(Name(node, sent.number, sent.digest))
        return inbox

    def _end(self, nodes: Collection[NodeId], time_ns: int, finished: bool, steps: int) -> Ended:
        told = self._ask({node: End(self._next_serial(), time_ns) for node in nodes})
        finals = {node: final.body for node, final in told.items() if isinstance(final, Final)}
        if missing := set(nodes) - set(finals):
            raise InternalError(f"{min(missing)} was told that the play is over and did not say what it came to")
        return Ended(time_ns, finished, steps, finals)

    def _next_serial(self) -> int:
        self._serial += 1
        return self._serial
