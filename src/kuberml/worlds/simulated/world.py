"""A simulated world: nodes on modelled devices and links, in virtual time, with faults.

It gives each node the four objects of the seam and runs one coroutine per node. It knows nothing of what they do.

    world = SimulatedWorld([Place(node="a", role="peer", device=device, link=link), ...], seed=1, workers=2)
    outcome = world.run({"a": main_of_a, ...})        # functions without arguments that return a coroutine

A node that crashes is cancelled and its function is called again: it goes on from `store(node).memory()`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

import msgspec

from kuberml.core.errors import ConfigError, nearest
from kuberml.core.ids import Digest, NodeId, check_node
from kuberml.core.seam import Recorder
from kuberml.core.units import to_ns
from kuberml.worlds.simulated.audit import audit as audited
from kuberml.worlds.simulated.bodies import Body, Door, Place
from kuberml.worlds.simulated.clock import SimulatedClock
from kuberml.worlds.simulated.compute import SimulatedCompute
from kuberml.worlds.simulated.faults import Fault, Faults
from kuberml.worlds.simulated.garbage import rarely_collected
from kuberml.worlds.simulated.links import Network, Traffic
from kuberml.worlds.simulated.lives import Lives, Main
from kuberml.worlds.simulated.lockstep_loop import LockstepLoop
from kuberml.worlds.simulated.lockstep_post import SimulatedPost
from kuberml.worlds.simulated.loop import VirtualLoop
from kuberml.worlds.simulated.results import JobCache, Remembering
from kuberml.worlds.simulated.store import SharedBlobs, SimulatedStore
from kuberml.worlds.simulated.totals import Totals
from kuberml.worlds.simulated.trace import NodeTrace, Trace
from kuberml.worlds.simulated.transport import SimulatedTransport, Switchboard
from kuberml.worlds.simulated.workers import Count, Workers, make_workers

__all__ = ["Fault", "JobCache", "Outcome", "Place", "SimulatedWorld"]


class Outcome(msgspec.Struct, frozen=True):
    """What a run came to.

    Attributes:
        virtual_time_ns: when it ended.
        trace_hash: equal for any number of workers on one machine.
        integer_hash: equal on every machine.
        finished: every node that was waited for has ended (or is gone for good); False: `until_s` came first.
        results: what each node's coroutine returned.
        traffic: bytes that each node sent and received.
        energy_mj: modelled energy of each node, millijoules.
        flops: floating point operations of each node's jobs.
        jobs_executed: jobs that really ran; the others were remembered.
        events: timers that fired.
    """

    virtual_time_ns: int
    trace_hash: Digest
    integer_hash: Digest
    finished: bool
    results: dict[NodeId, Any]
    traffic: dict[NodeId, Traffic]
    energy_mj: dict[NodeId, int]
    flops: dict[NodeId, int]
    jobs_executed: int
    events: int


class _Deaf:
    """Records nothing."""

    def record(self, event: str, **fields: Any) -> None:
        """See core.seam.Recorder."""


class SimulatedWorld:
    """See the module. A world runs once."""

    def __init__(
        self,
        places: Sequence[Place],
        *,
        seed: int,
        workers: Count | Workers = 1,
        faults: Sequence[Fault] = (),
        job_cache: JobCache | None = None,
        recorder: Callable[[NodeId, Callable[[], int]], Recorder] | None = None,
        audit: bool = False,
        schedule: Literal["free", "lockstep"] = "free",
    ) -> None:
        """Build it; nothing runs yet.

        Args:
            places: the nodes.
            seed: root of the network's randomness (loss).
            workers: 1: jobs run in this process when their result is due. More: on that many worker processes. "ray": on a
                Ray cluster. Or workers that several worlds share; their owner closes them.
            faults: what goes wrong and when.
            job_cache: where results of jobs outlive the run; a second run with the same inputs replays them.
            recorder: makes the Recorder of a node from its name and clock, for instance `Ledger.recorder`. The world itself
                records who went down, came back, was cut off or slowed. None: nothing is recorded.
            audit: fail a paradigm that touches the wall clock, global randomness, threads or files.
            schedule: "lockstep": messages arrive when the next step begins, whatever the links; nobody fails and no battery
                runs empty. It comes out as the same run of real processes (`worlds.live.lockstep`).

        Raises:
            ConfigError: two nodes of one name, or a device, link, fault or number of workers that cannot be.
        """
        if schedule == "lockstep" and faults:
            raise ConfigError(
                f"faults ({faults[0].what!r}, ...) have no place in schedule 'lockstep': leave out one of the two"
            )
        self.loop = LockstepLoop() if schedule == "lockstep" else VirtualLoop()
        self.trace = Trace()
        self._post = SimulatedPost(self.loop) if isinstance(self.loop, LockstepLoop) else None
        self._cast = {place.node: place.role for place in places}
        self._network = Network(self.loop, seed)
        self._board = Switchboard(self.loop, self._network, self.trace)
        self._owned = make_workers(workers) if isinstance(workers, int | str) else None
        self._workers = Remembering(self._owned or workers, job_cache)  # type: ignore[arg-type]  # one of the two is there
        self._clock = SimulatedClock(self.loop)
        blobs = SharedBlobs()
        self._bodies = {check_node(place.node): self._body(place, blobs) for place in places}
        self._totals = Totals(self._bodies, self._note_active())
        self._faults = Faults(tuple(faults), tuple(self._bodies))
        self._lives = Lives(
            loop=self.loop,
            network=self._network,
            trace=self.trace,
            bodies=self._bodies,
            faults=self._faults,
            recorder=self.recorder,
        )
        self._recorders: dict[NodeId, Recorder] = {
            node: _Deaf() if recorder is None else recorder(node, self._clock.now_ns) for node in self._bodies
        }
        self._audit, self._has_run = audit, False

    def clock(self, node: NodeId) -> SimulatedClock:
        """The node's Clock. All nodes have the same time."""
        return self._clock

    def transport(self, node: NodeId) -> Door:
        """The node's Transport."""
        return self._bodies[node].door

    def compute(self, node: NodeId) -> SimulatedCompute:
        """The node's Compute."""
        return self._bodies[node].compute

    def store(self, node: NodeId) -> SimulatedStore:
        """The node's Store."""
        return self._bodies[node].store

    def recorder(self, node: NodeId) -> Recorder:
        """The node's Recorder."""
        return self._recorders[node]

    def traffic(self, node: NodeId) -> Traffic:
        """Bytes that the node has sent and received so far. It goes on counting: copy it to keep it."""
        return self._bodies[node].port.traffic

    def energy_mj(self, node: NodeId) -> int:
        """Energy that the node has spent so far, millijoules."""
        return self._bodies[node].energy_mj(self.loop.now_ns)

    def flops(self, node: NodeId) -> int:
        """Floating point operations that the node's jobs have done so far."""
        return self._bodies[node].compute.flops

    def moved_bytes(self) -> int:
        """Bytes that all nodes have sent so far. The cost depends on how many did something since the last call."""
        return self._totals.moved_bytes()

    def all_energy_mj(self) -> int:
        """Energy that all nodes have spent so far, millijoules; the same as adding up `energy_mj`, and cheaper."""
        return self._totals.energy_mj(self.loop.now_ns)

    def node_hash(self, node: NodeId) -> Digest:
        """BLAKE3 over what the node has computed and received so far: under "lockstep" the same in every world that keeps it.

        Raises:
            ConfigError: the schedule is free: a node's trace depends on the links.
        """
        trace = self._bodies[node].trace
        if not isinstance(trace, NodeTrace):
            raise ConfigError("node_hash: with schedule 'free' there is one trace for all nodes; set schedule 'lockstep'")
        return trace.trace_hash()

    def run(
        self, mains: Mapping[NodeId, Main], *, until_s: float | None = None, wait_for: Collection[str] | None = None
    ) -> Outcome:
        """Run one coroutine per node until those that are waited for have ended; the rest is cancelled in order.

        Args:
            mains: what each node does, in the order in which they start; called again after a crash.
            until_s: virtual time at which it ends anyway.
            wait_for: nodes or roles; None: all of `mains`.

        Raises:
            ConfigError: unknown node, or the world has run already.
            InternalError: deadlock.
            Whatever a node's coroutine or handler raises.
        """
        waited = self._waited(mains, wait_for)
        if self._has_run:
            raise ConfigError("a world runs once: build another")
        self._has_run = True
        with rarely_collected(), audited() if self._audit else contextlib.nullcontext():
            try:
                return self.loop.run(self._live(mains, waited, None if until_s is None else to_ns(until_s)))
            finally:
                if self._owned is not None:
                    self._owned.close()

    async def _live(self, mains: Mapping[NodeId, Main], waited: frozenset[NodeId], until_ns: int | None) -> Outcome:
        finished = await self._lives.run(mains, waited, until_ns)
        return Outcome(
            virtual_time_ns=self.loop.now_ns,
            trace_hash=self.trace.trace_hash(),
            integer_hash=self.trace.integer_hash(),
            finished=finished,
            results=dict(self._lives.results),
            traffic={node: msgspec.structs.replace(self.traffic(node)) for node in self._bodies},
            energy_mj={node: self.energy_mj(node) for node in self._bodies},
            flops={node: self.flops(node) for node in self._bodies},
            jobs_executed=self._workers.executed,
            events=self.loop.events,
        )

    def _body(self, place: Place, blobs: SharedBlobs) -> Body:
        node, store = place.node, SimulatedStore(blobs)
        port = self._network.add(node, place.link)
        if self._post is not None:
            return self._post.body(place, port, store, cast=self._cast, trace=self.trace, workers=self._workers)
        door = SimulatedTransport(self._board, port, place.role, store)
        compute = SimulatedCompute(node, place.device, self.loop, self.trace, self._workers)
        if place.device.battery_mj is not None:
            compute.on_worked = lambda: self._lives.check_battery(node)
        return Body(place, port, store, door, compute, self.trace)

    def _note_active(self) -> set[NodeId]:
        active: set[NodeId] = set()
        for body in self._bodies.values():
            body.port.active = body.compute.active = active
        return active

    def _waited(self, mains: Mapping[NodeId, Main], wait_for: Collection[str] | None) -> frozenset[NodeId]:
        roles = {body.place.role for body in self._bodies.values()}
        for name in mains:
            if name not in self._bodies:
                raise ConfigError(f"mains: unknown node {name!r}; {nearest(name, self._bodies)}")
        for wanted in wait_for or ():
            if wanted not in self._bodies and wanted not in roles:
                raise ConfigError(f"wait_for: unknown node or role {wanted!r}; {nearest(wanted, {*self._bodies, *roles})}")
        if wait_for is None:
            return frozenset(mains)
        return frozenset(node for node in mains if node in wait_for or self._bodies[node].place.role in wait_for)
