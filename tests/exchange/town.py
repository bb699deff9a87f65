"""A few nodes and a hub in a small simulated world, for tests: real links, real bytes, digits as data, numpy as learner."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np

from kuberml.core.ids import NodeId
from kuberml.exchange.hub import Hub, Watcher
from kuberml.exchange.majority import Majority
from kuberml.exchange.node import Node
from kuberml.exchange.place import LocalData
from kuberml.exchange.place import Place as Standpoint
from kuberml.knowledge.kinds.extractor import basis_of
from kuberml.knowledge.kinds.statistics import Statistics, describe
from kuberml.knowledge.signing import Keys
from kuberml.learning.datasets import DATASETS, samples
from kuberml.learning.extractors import features, identity
from kuberml.learning.head_learner import HeadLearner
from kuberml.learning.types import DataRef
from kuberml.vault.board import Board
from kuberml.vault.catalog import Catalog
from kuberml.worlds.simulated.devices import Device, LinkSpec
from kuberml.worlds.simulated.faults import Fault
from kuberml.worlds.simulated.world import Outcome, Place, SimulatedWorld

MS = 1_000_000
DEVICE = Device(name="test", flops_per_s=10**10, watts_compute_mw=2000, watts_idle_mw=500)
LINK = LinkSpec(up_bps=8_000_000, down_bps=8_000_000, latency_ns=10 * MS)
HUB = NodeId("hub")
EXTRACTOR = identity(64)
BASIS = basis_of(EXTRACTOR)
LABELS = tuple("0123456789")
LEARNER = HeadLearner(EXTRACTOR, LABELS, 64, (8, 8, 1))

Main = Callable[[Node], Awaitable[Any]]


class Notes:
    """A recorder that a test can read: (event, fields) in order."""

    def __init__(self) -> None:
        self.all: list[tuple[str, dict[str, Any]]] = []

    def record(self, event: str, **fields: Any) -> None:
        self.all.append((event, fields))

    def of(self, event: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.all if name == event]


class Town:
    """Nodes by name, and a hub, in one world; `roles` and `budgets` per node where they are not "peer" and unlimited."""

    def __init__(
        self,
        *nodes: str,
        faults: Sequence[Fault] = (),
        roles: dict[str, str] | None = None,
        links: dict[str, LinkSpec] | None = None,
        **places: dict[str, Any],
    ) -> None:
        """`places`: further fields of a node's `exchange.place.Place`, by node name."""
        everybody = [*nodes, HUB]
        self.roles = {**dict.fromkeys(everybody, "peer"), HUB: "hub", **(roles or {})}
        self.world = SimulatedWorld(
            [Place(NodeId(n), self.roles[n], DEVICE, (links or {}).get(n, LINK)) for n in everybody], seed=1, faults=faults
        )
        self.notes = {name: Notes() for name in everybody}
        self.catalog = Catalog(":memory:")
        self.board: Board | None = None
        self.watchers: tuple[Watcher, ...] = ()
        self.hub: Majority | None = None
        """Whose word counts how much, as the hub sees it; None before it runs."""
        self._places = places

    def standpoint(self, name: str) -> Standpoint:
        world, node = self.world, NodeId(name)
        return Standpoint(
            **{
                "clock": world.clock(node),
                "transport": world.transport(node),
                "compute": world.compute(node),
                "store": world.store(node),
                "recorder": self.notes[name],
                "role": self.roles[name],
                "task": "digits",
                "keys": keys(name),
                "seed": 1,
                "shape": (8, 8, 1),
                "hub": HUB,
                "learner": LEARNER,
                **self._places.get(name, {}),
            }
        )

    def run(self, *, until_s: float = 3600.0, **mains: Main) -> dict[str, Any]:
        """Run one coroutine per node (the rest stays silent) and return what each returned. The hub serves all the time."""
        outcome = self.outcome(until_s=until_s, **mains)
        assert outcome.finished, "somebody did not come to an end"
        return {name: outcome.results[NodeId(name)] for name in mains}

    def outcome(self, *, until_s: float = 3600.0, **mains: Main) -> Outcome:
        def main(name: str) -> Any:
            return lambda: mains[name](Node(self.standpoint(name)))

        return self.world.run({HUB: self._hub, **{NodeId(name): main(name) for name in mains}}, until_s=until_s)

    async def _hub(self) -> None:
        hub = Hub(self.world.transport(HUB), self.world.clock(HUB), self.catalog, self.notes[HUB], self.board, self.watchers)
        self.hub = hub._standing


def keys(name: str) -> Keys:
    return Keys(name.encode().ljust(32, b"."))


def data(labels: str, *, part: int = 0, train: int = 14, heldout: int = 7, relabel: dict[str, str] | None = None) -> LocalData:
    """Digits of some labels: per label `train` and `heldout` samples of one of five parts, which share no sample."""
    y_N = np.asarray(DATASETS.get("digits").part("train").y_N)
    mine = [np.flatnonzero(y_N == LABELS.index(label))[part::5] for label in labels]
    chosen = ([one[:train] for one in mine], [one[-heldout:] for one in mine])
    refs = [
        DataRef("digits", "train", np.sort(np.concatenate(some)).astype(np.int32), "plain", relabel or {}) for some in chosen
    ]
    return LocalData(refs[0], refs[1], dict.fromkeys(sorted((relabel or {}).get(label, label) for label in labels), train))


def statistics(local: LocalData) -> Statistics:
    """What a learner with this data would publish."""
    part = samples(local.train)
    return describe(features(EXTRACTOR, part.x_N), [part.labels[y] for y in part.y_N], basis=BASIS)[0]


async def stay(node: Node) -> None:
    """Serve what is asked, and do nothing else."""


def publishes(content: Any, *, slot: str = "shard", **options: Any) -> Main:
    """A node that publishes one thing at the beginning."""

    async def main(node: Node) -> Any:
        return await node.publish(content, slot=slot, version=0, **options)

    return main
