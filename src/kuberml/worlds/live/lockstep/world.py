"""One node's process in a live run in lockstep: its clock, transport, compute and store, and its part in the barriers."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import msgspec

from kuberml.core.ids import Digest, NodeId
from kuberml.vault.folder import FolderStore
from kuberml.worlds.live.lockstep.loop import BarrierLoop, Next
from kuberml.worlds.live.lockstep.orders import Begin, End, Report, Step
from kuberml.worlds.live.lockstep.wire import Wire
from kuberml.worlds.simulated.bodies import Place
from kuberml.worlds.simulated.clock import SimulatedClock
from kuberml.worlds.simulated.compute import SimulatedCompute
from kuberml.worlds.simulated.links import Port, Traffic
from kuberml.worlds.simulated.lockstep_door import LockstepDoor
from kuberml.worlds.simulated.loop import NODE
from kuberml.worlds.simulated.trace import Trace
from kuberml.worlds.simulated.workers import Here, Ticket


class Ahead(Here):
    """Jobs run in this process on one thread, and already while it would only wait for the others."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[Ticket] = deque()

    def submit(self, task: bytes) -> Ticket:
        """See Workers."""
        ticket = super().submit(task)
        self._waiting.append(ticket)
        return ticket

    def drop(self, ticket: Ticket) -> None:
        """See Workers."""
        ticket.dropped = True

    def work(self) -> bool:
        """Do the next job that nobody has asked the reply of; False: there is none."""
        while self._waiting:
            ticket = self._waiting.popleft()
            if ticket.reply is None and not ticket.dropped:
                self.result(ticket)
                return True
        return False


class LockstepWorld:
    """See the module. It runs once."""

    def __init__(self, wire: Wire, begin: Begin, place: Place, cast: Mapping[NodeId, str], vault: Path) -> None:
        """`cast`: everybody, with their roles."""
        self.node = place.node
        self.loop = BarrierLoop(begin.step_ns)
        self._wire, self._trace, self._jobs = wire, Trace(), Ahead()
        self._port = Port(place.node, place.link)
        self._store = FolderStore(vault, durable=False)
        self._clock = SimulatedClock(self.loop)
        self._door = LockstepDoor(self._port, cast, self._store, post=wire, loop=self.loop, trace=self._trace)
        device = msgspec.structs.replace(place.device, battery_mj=None)
        self._compute = SimulatedCompute(place.node, device, self.loop, self._trace, self._jobs)
        self._has_ended = False
        self.loop.barrier, self.loop.receive = self._barrier, self._door.receive

    def clock(self, node: NodeId) -> SimulatedClock:
        """The node's Clock."""
        return self._clock

    def transport(self, node: NodeId) -> LockstepDoor:
        """The node's Transport."""
        return self._door

    def compute(self, node: NodeId) -> SimulatedCompute:
        """The node's Compute."""
        return self._compute

    def store(self, node: NodeId) -> FolderStore:
        """The node's Store."""
        return self._store

    def traffic(self, node: NodeId) -> Traffic:
        """Bytes that the node has sent and received so far."""
        return self._port.traffic

    def flops(self, node: NodeId) -> int:
        """Floating point operations that the node's jobs have done so far."""
        return self._compute.flops

    def node_hash(self, node: NodeId) -> Digest:
        """See `SimulatedWorld.node_hash`."""
        return self._trace.trace_hash()

    def run(self, main: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Play this node's part until the conductor ends the run.

        Raises:
            Whatever `main` or a handler raises.
        """
        try:
            self.loop.run(self._live(main))
        finally:
            self._jobs.close()

    def close(self) -> None:
        """Close the vault."""
        self._store.close()

    async def _live(self, main: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        over: asyncio.Future[None] = self.loop.create_future()
        self.loop.end = lambda: over.set_result(None)
        context = contextvars.Context()
        context.run(NODE.set, self.node)
        task = self.loop.create_task(context.run(main), name=f"main of {self.node}", context=context)
        task.add_done_callback(self._on_end)
        await over

    def _on_end(self, task: asyncio.Task[Any]) -> None:
        self._has_ended = True
        if not task.cancelled() and (error := task.exception()) is not None:
            error.add_note(f"in node {self.node}, at {self.loop.time()} s of virtual time")
            self.loop.fail(error)

    def _barrier(self, due_ns: int | None) -> Next:
        self._wire.tell(Report(due_ns, self._wire.take_sent(), self._has_ended))
        order = self._wire.next_order(self._jobs.work)
        if isinstance(order, End):
            return Next(None, time_ns=order.time_ns)
        assert isinstance(order, Step), "the conductor ends a play before it begins another"
        return Next(order.step, self._wire.letters(order.letters))
