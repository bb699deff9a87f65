"""One run: one paradigm, one seed, in the simulated world; from the stage to its end."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec

from kuberml.core.errors import ConfigError, KuberError, RemoteError, Unreachable
from kuberml.core.ids import NodeId
from kuberml.core.seam import Recorder
from kuberml.core.units import NS
from kuberml.exchange.hub import Hub
from kuberml.exchange.node import Node
from kuberml.exchange.place import Place as Standpoint
from kuberml.paradigms import PARADIGMS, roles
from kuberml.scenario.config import Config
from kuberml.scenario.measure import Spent, Watch
from kuberml.scenario.notes import Notes
from kuberml.scenario.options import check_options, paradigm_of
from kuberml.scenario.public_things import PublicThings
from kuberml.scenario.stage import HUB, LIBRARY, SERVER, Actor, Stage, set_stage
from kuberml.vault.catalog import Catalog
from kuberml.worlds.simulated.faults import Fault
from kuberml.worlds.simulated.results import JobCache
from kuberml.worlds.simulated.workers import Workers
from kuberml.worlds.simulated.world import Outcome, Place, SimulatedWorld

Records = Callable[[NodeId, Callable[[], int]], Recorder]
"""Makes a node's recorder: (node, its clock) -> Recorder."""


class Play:
    """One run in the making."""

    def __init__(
        self,
        config: Config,
        label: str,
        seed: int,
        *,
        things: PublicThings,
        workers: Workers,
        cache: JobCache | None,
        records: Records,
    ) -> None:
        """Set the stage; nothing runs yet.

        Raises:
            ConfigError: an option of the paradigm is unknown or impossible, or the data cannot be dealt that way.
        """
        self.config, self.label, self.seed, self.things = config, label, seed, things
        self.paradigm = paradigm_of(config.paradigms[label].use, PARADIGMS)
        self.options = check_options(config, PARADIGMS)[label]
        common = getattr(self.paradigm, "COMMON_MODEL", False)
        self.stage = set_stage(config, seed, common=common)
        server = self.stage.services[SERVER].learner
        if common and server is not None and not server.averageable:
            raise ConfigError(
                f"paradigms.{label}: it averages states or sends them around as one vector, and those of learners.estimator ="
                f" {config.learners.estimator!r} are none; local and kuber take any learner"
            )
        self.cast = self._cast()
        places = [Place(actor.node, role, actor.device, actor.link) for role, actor in self.cast.values()]
        self.world = SimulatedWorld(
            places, seed=seed, workers=workers, faults=_faults(config, self.stage), job_cache=cache, audit=config.world.audit
        )
        self._now_ns = self.world.clock(HUB).now_ns
        self.watch = Watch(self._now_ns, self._spent)
        self.notes = Notes(self._now_ns)
        self._records = records
        self._catalog = Catalog(":memory:")  # as if on the hub's disk: it survives the hub's crashes
        self._gave_up: dict[NodeId, KuberError | OSError] = {}
        self.tell: Callable[[float, int], None] = lambda time_s, bytes_moved: None
        """Told the virtual time and the bytes moved whenever a node serves something new."""

    def run(self) -> Outcome:
        """Run it to its end. What it came to is read by `summary.summarise`."""
        mains = {node: self._main(node) for node in self.cast}
        waited = ["server"] if "server" in roles(self.paradigm) else ["peer"]
        outcome = self.world.run(mains, until_s=self.config.world.until_s, wait_for=waited)
        if self._gave_up and {node for node, (role, _) in self.cast.items() if role in waited} <= self._gave_up.keys():
            raise next(iter(self._gave_up.values()))  # nobody is left to say how it went
        return outcome

    def _cast(self) -> dict[NodeId, tuple[str, Actor]]:
        parts = roles(self.paradigm)
        learner_role = "client" if "client" in parts else "peer"
        cast = {HUB: ("hub", self.stage.services[HUB])}
        if getattr(self.paradigm, "PUBLIC", ()):
            cast[LIBRARY] = ("library", self.stage.services[LIBRARY])
        if "server" in parts:
            cast[SERVER] = ("server", self.stage.services[SERVER])
        return cast | {actor.node: (learner_role, actor) for actor in self.stage.learners}

    def _main(self, node: NodeId) -> Callable[[], Coroutine[Any, Any, None]]:
        role, actor = self.cast[node]
        if role == "hub":
            return self._hub
        if role == "library":
            return self._library
        return lambda: self._part(actor, role)

    async def _part(self, actor: Actor, role: str) -> None:
        """Play one node's part. What its peers, the network or its own disk do to it ends that node, not the run."""
        node = Node(self._standpoint(actor, role))
        try:
            await roles(self.paradigm)[role](node, self.options)
        except (Unreachable, RemoteError, OSError) as error:
            node.record("gave up", why=str(error))
            self._gave_up[actor.node] = error

    async def _hub(self) -> None:
        world = self.world
        Hub(world.transport(HUB), world.clock(HUB), self._catalog, self._records(HUB, self._now_ns))

    async def _library(self) -> None:
        node = Node(self._standpoint(self.stage.services[LIBRARY], "library"))
        for name in self.things.there(self.paradigm.PUBLIC):
            await node.publish(self.things.get(name), slot=name, version=0)
        besides = roles(self.paradigm).get("library")
        if besides is not None:
            await besides(node, self.options)

    def _standpoint(self, actor: Actor, role: str) -> Standpoint:
        world, node = self.world, actor.node
        return Standpoint(
            clock=world.clock(node),
            transport=world.transport(node),
            compute=world.compute(node),
            store=world.store(node),
            recorder=self.notes.beside(node, self._records(node, self._now_ns)),
            role=role,
            task=self.config.task,
            keys=actor.keys,
            seed=self.seed,
            shape=self.stage.dataset.shape,
            hub=HUB,
            publisher=self.stage.services[LIBRARY].keys.public,
            neighbours=actor.neighbours,
            mixing=actor.mixing,
            learner=actor.learner,
            data=actor.data,
            budget_bytes=actor.budget_bytes,
            region=actor.device.region,
            observer=self,
        )

    def deployed(self, node: NodeId, predictor: Any, learned_at_ms: tuple[int, ...]) -> None:
        """See `exchange.place.Observer`."""
        self.watch.deployed(node, predictor, learned_at_ms)
        self.tell(self._now_ns() / NS, self.moved_bytes())

    def _spent(self) -> Spent:
        return Spent(self.moved_bytes(), sum(self.world.energy_mj(node) for node in self.cast))

    def moved_bytes(self) -> int:
        """Bytes that were sent so far, each counted once."""
        traffic = [self.world.traffic(node) for node in self.cast]
        return sum(one.sent_control + one.sent_blob for one in traffic)


def _faults(config: Config, stage: Stage) -> Sequence[Fault]:
    everybody = [actor.node for actor in stage.learners]
    return [
        msgspec.convert({**msgspec.structs.asdict(fault), "nodes": tuple(fault.nodes or everybody)}, Fault)
        for fault in config.faults
    ]
