"""Who plays what in a run, in any world: the same cast and the same coroutines, over the four interfaces that a world gives."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

from kuberml.core.errors import ConfigError, KuberError, RemoteError, Unreachable
from kuberml.core.ids import NodeId
from kuberml.core.seam import Clock, Compute, Recorder, Store, Transport
from kuberml.exchange.hub import Hub
from kuberml.exchange.node import Node
from kuberml.exchange.place import Beside, Observer
from kuberml.exchange.place import Place as Standpoint
from kuberml.knowledge.signing import Keys
from kuberml.paradigms import PARADIGMS, roles
from kuberml.scenario.config import Config
from kuberml.scenario.options import check_options, paradigm_of
from kuberml.scenario.public_things import PublicThings
from kuberml.scenario.stage import HUB, LIBRARY, SERVER, Actor, keys_of, secrets_of, set_stage
from kuberml.vault.catalog import Catalog


class World(Protocol):
    """What a world gives the nodes that live in it."""

    def clock(self, node: NodeId) -> Clock:
        """The node's Clock."""
        ...

    def transport(self, node: NodeId) -> Transport:
        """The node's Transport."""
        ...

    def compute(self, node: NodeId) -> Compute:
        """The node's Compute."""
        ...

    def store(self, node: NodeId) -> Store:
        """The node's Store."""
        ...


class Parts:
    """The parts of one run: one paradigm, one seed. All follows from the scenario and the seed, in every process alike.

    Attributes:
        stage: data, devices, links and keys.
        cast: every node's role and what it has, in the order in which they start.
        waited: the role that the run waits for.
        gave_up: whom its peers, the network or its own disk ended, and why.
        nodes: those whose part has begun.
    """

    def __init__(
        self, config: Config, label: str, seed: int, things: PublicThings, keys: Callable[[int, NodeId], Keys] = keys_of
    ) -> None:
        """Raises ConfigError: an option of the paradigm is unknown or impossible, or the data cannot be dealt that way."""
        self.config, self.label, self.seed, self.things = config, label, seed, things
        self._derived = keys is keys_of  # a live node's keys and secrets are its own
        self.paradigm = paradigm_of(config.paradigms[label].use, PARADIGMS)
        self.options = check_options(config, PARADIGMS)[label]
        common = getattr(self.paradigm, "COMMON_MODEL", False)
        self.stage = set_stage(config, seed, common=common, keys=keys)
        server = self.stage.services[SERVER].learner
        if common and server is not None and not server.averageable:
            raise ConfigError(
                f"paradigms.{label}: it averages states or sends them around as one vector, and those of learners.estimator ="
                f" {config.learners.estimator!r} are none; local and kuber take any learner"
            )
        self.cast: Mapping[NodeId, tuple[str, Actor]] = self._cast()
        self.waited = "server" if "server" in roles(self.paradigm) else "peer"
        self.gave_up: dict[NodeId, KuberError | OSError] = {}
        self.nodes: dict[NodeId, Node] = {}
        self._catalog = Catalog(":memory:")  # as if on the hub's disk: it survives the hub's crashes

    def main(
        self,
        node: NodeId,
        world: World,
        recorder: Recorder,
        observer: Observer | None = None,
        *,
        beside: Beside | None = None,
    ) -> Coroutine[Any, Any, None]:
        """What a node does in a world; `beside`: see `exchange.place.Place`."""
        role, actor = self.cast[node]
        if role == "hub":
            return self._hub(world, recorder)
        standpoint = self._standpoint(role, actor, world, recorder, observer, beside)
        return self._library(standpoint) if role == "library" else self._part(standpoint)

    def check_somebody_is_left(self) -> None:
        """Raise what the first to give up gave up for, if all that the run waits for have: nobody can say how it went."""
        if {node for node, (role, _) in self.cast.items() if role == self.waited} <= self.gave_up.keys():
            raise next(iter(self.gave_up.values()))

    def _cast(self) -> dict[NodeId, tuple[str, Actor]]:
        parts = roles(self.paradigm)
        learner_role = "client" if "client" in parts else "peer"
        cast = {HUB: ("hub", self.stage.services[HUB])}
        if getattr(self.paradigm, "PUBLIC", ()):
            cast[LIBRARY] = ("library", self.stage.services[LIBRARY])
        if "server" in parts:
            cast[SERVER] = ("server", self.stage.services[SERVER])
        return cast | {actor.node: (learner_role, actor) for actor in self.stage.learners}

    async def _part(self, standpoint: Standpoint) -> None:
        """Play one node's part. What its peers, the network or its own disk do to it ends that node, not the run."""
        node = self.nodes[standpoint.transport.node] = Node(standpoint)
        try:
            await roles(self.paradigm)[standpoint.role](node, self.options)
        except (Unreachable, RemoteError, OSError) as error:
            node.record("gave up", why=str(error))
            self.gave_up[node.id] = error

    async def _hub(self, world: World, recorder: Recorder) -> None:
        Hub(world.transport(HUB), world.clock(HUB), self._catalog, recorder)

    async def _library(self, standpoint: Standpoint) -> None:
        node = self.nodes[standpoint.transport.node] = Node(standpoint)
        for name in self.things.there(self.paradigm.PUBLIC):
            await node.publish(self.things.get(name), slot=name, version=0)
        besides = roles(self.paradigm).get("library")
        if besides is not None:
            await besides(node, self.options)

    def _standpoint(
        self, role: str, actor: Actor, world: World, recorder: Recorder, observer: Observer | None, beside: Beside | None
    ) -> Standpoint:
        node = actor.node
        return Standpoint(
            clock=world.clock(node),
            transport=world.transport(node),
            compute=world.compute(node),
            store=world.store(node),
            recorder=recorder,
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
            data=None if actor.stages else actor.data,
            stages=actor.stages,
            budget_bytes=actor.budget_bytes,
            region=actor.device.region,
            observer=observer,
            secrets=secrets_of(self.seed, node) if self._derived else None,
            charge_mj=lambda: _charge_mj(world, actor),
            beside=beside,
        )


def _charge_mj(world: World, actor: Actor) -> int | None:
    """What the battery of a modelled device still holds; None: on mains, or the world does not model it."""
    spent_mj: Callable[[NodeId], int] | None = getattr(world, "energy_mj", None)
    if spent_mj is None or actor.device.battery_mj is None:
        return None
    return max(0, actor.device.battery_mj - spent_mj(actor.node))
