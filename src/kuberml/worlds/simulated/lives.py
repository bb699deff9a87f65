"""Who lives: starts each node's coroutine, ends it at a fault or an empty battery, starts it again, knows when all is over."""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from kuberml.core.errors import InternalError
from kuberml.core.ids import NodeId
from kuberml.core.seam import Recorder
from kuberml.worlds.simulated.bodies import Body
from kuberml.worlds.simulated.faults import Faults
from kuberml.worlds.simulated.links import Network
from kuberml.worlds.simulated.loop import NODE, VirtualLoop
from kuberml.worlds.simulated.trace import Trace
from kuberml.worlds.simulated.transport import SimulatedTransport

Main = Callable[[], Coroutine[Any, Any, Any]]


class Lives:
    """The coroutines of one run. `Faults` breaks it through the methods of `faults.Breakable`."""

    def __init__(
        self,
        *,
        loop: VirtualLoop,
        network: Network,
        trace: Trace,
        bodies: Mapping[NodeId, Body],
        faults: Faults,
        recorder: Callable[[NodeId], Recorder],
    ) -> None:
        self.results: dict[NodeId, Any] = {}
        self._loop, self._network, self._trace = loop, network, trace
        self._bodies, self._faults, self._recorder = bodies, faults, recorder
        self._mains: Mapping[NodeId, Main] = {}
        self._waited: frozenset[NodeId] = frozenset()
        self._flat: set[NodeId] = set()
        self._killed: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self._restarts: dict[NodeId, asyncio.Task[None]] = {}
        self._living: dict[NodeId, asyncio.Task[Any]] = {}  # asyncio itself would let a task go that waits for nobody

    async def run(self, mains: Mapping[NodeId, Main], waited: frozenset[NodeId], until_ns: int | None) -> bool:
        """Live until all that are waited for have ended or are gone for good (True), or until_ns (False)."""
        self._mains, self._waited = mains, waited
        self._over: asyncio.Future[bool] = self._loop.create_future()
        absent = self._faults.absent_at_start()
        for node in sorted(absent):
            self._unplug(node)
        for node in mains:
            if node not in absent:
                self._begin(node)
        self._faults.schedule(self, self._loop.at_ns)
        for body in self._bodies.values():
            self._watch_battery(body)
        if until_ns is not None:
            self._loop.at_ns(until_ns, self._finish, False)
        self._check_over()
        return await self._over

    def stop_node(self, node: NodeId) -> None:
        """Kill its process: tasks cancelled, network out, disk frozen."""
        self._note("down", node)
        self._unplug(node)
        if node in self._restarts:
            self._restarts.pop(node).cancel()
        for task in self._loop.tasks(node):
            self._killed.add(task)
            task.add_done_callback(_bury)
            task.cancel()
        self._loop.call_soon(self._check_over)  # not yet: a crash may start it again at once

    def start_node(self, node: NodeId) -> None:
        """Start its process again, once every task of the old one has ended."""
        if node not in self._flat:
            self._restarts[node] = self._loop.create_task(self._restart(node), name=f"restart of {node}")

    def cut(self, left: frozenset[NodeId], right: frozenset[NodeId], *, heal: bool) -> None:
        """See faults.Breakable."""
        (self._network.heal if heal else self._network.cut)(left, right)
        for node in sorted(left):
            self._note("healed" if heal else "cut", node)

    def slow_down(self, node: NodeId, divisor: int) -> None:
        """See faults.Breakable."""
        self._network.set_speed(self._bodies[node].port, divisor)
        self._note("slow", node, divisor)

    def corrupt_reads(self, node: NodeId, on: bool) -> None:
        """See faults.Breakable."""
        door = self._bodies[node].door
        assert isinstance(door, SimulatedTransport), "there are no faults in lockstep"
        door.is_lying = on
        self._note("corrupt", node, int(on))

    def fill_disk(self, node: NodeId, on: bool) -> None:
        """See faults.Breakable."""
        self._bodies[node].store.is_full = on
        self._note("disk_full", node, int(on))

    def check_battery(self, node: NodeId) -> None:
        """Stop a node for good if its battery is empty. Called after each job and when idling alone would have emptied it."""
        body = self._bodies[node]
        empty_ns = body.empty_at_ns()
        if node not in self._flat and empty_ns is not None and empty_ns <= self._loop.now_ns:
            self._flat.add(node)
            self._note("flat", node)
            self.stop_node(node)

    def _watch_battery(self, body: Body) -> None:
        # Work only empties it sooner, so at the latest it is empty when idling alone would have emptied it.
        empty_ns = body.empty_at_ns()
        if empty_ns is not None:
            self._loop.at_ns(empty_ns, self.check_battery, body.place.node)

    async def _restart(self, node: NodeId) -> None:
        dying = self._loop.tasks(node)
        if dying:
            await asyncio.wait(dying)
        self._bodies[node].store.is_frozen = False
        self._network.set_up(self._bodies[node].port, True)
        del self._restarts[node]
        self._note("up", node)
        if node in self._mains:
            self._begin(node)

    def _unplug(self, node: NodeId) -> None:
        body = self._bodies[node]
        self._network.set_up(body.port, False)
        body.store.is_frozen = True
        body.door.reset()

    def _begin(self, node: NodeId) -> None:
        context = contextvars.Context()
        context.run(NODE.set, node)
        task = self._loop.create_task(context.run(self._mains[node]), name=f"main of {node}", context=context)
        self._living[node] = task
        task.add_done_callback(lambda task: self._on_end(node, task))

    def _on_end(self, node: NodeId, task: asyncio.Task[Any]) -> None:
        error = InternalError("its coroutine was cancelled, but not by a fault") if task.cancelled() else task.exception()
        if self._over.done() or task in self._killed:
            self._killed.discard(task)
            return  # whatever a killed process still raised, nobody would have seen it
        if error is not None:
            error.add_note(f"in node {node}, at {self._loop.time()} s of virtual time")
            self._loop.fail(error)
            return
        self._trace.commit("end", node, self._loop.now_ns)
        self.results[node] = task.result()
        self._check_over()

    def _is_over(self, node: NodeId) -> bool:
        gone = not self._bodies[node].port.is_up and node not in self._restarts
        return node in self.results or (gone and (node in self._flat or not self._faults.returns(node, self._loop.now_ns)))

    def _check_over(self) -> None:
        if all(self._is_over(node) for node in self._waited):
            self._finish(True)

    def _finish(self, finished: bool) -> None:
        self._loop.at_step_end(self._end, finished)

    def _end(self, finished: bool) -> None:
        if not self._over.done():
            self._over.set_result(finished or all(self._is_over(node) for node in self._waited))

    def _note(self, what: str, node: NodeId, *integers: int) -> None:
        self._trace.commit(what, node, self._loop.now_ns, integers)
        self._recorder(node).record(what, integers=list(integers))


def _bury(task: asyncio.Task[Any]) -> None:
    """Look at what a killed task raised, so that asyncio does not report it."""
    if not task.cancelled():
        task.exception()
