"""The stage of one run: who is there, with which data, device, link and keys. All follows from scenario and seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import blake3
import msgspec
import numpy as np
import numpy.typing as npt

from kuberml.core.canonical import encode
from kuberml.core.errors import ConfigError
from kuberml.core.ids import LabelId, NodeId
from kuberml.core.rng import rng
from kuberml.exchange.arrivals import together
from kuberml.exchange.place import LocalData, Secrets
from kuberml.exchange.place import Stage as Arriving
from kuberml.knowledge.signing import Keys
from kuberml.learning.adapters import scikit_learner, torch_learner
from kuberml.learning.datasets import DATASETS, Dataset
from kuberml.learning.learner import Learner
from kuberml.learning.partitions import partition
from kuberml.learning.types import DataRef
from kuberml.scenario import stream
from kuberml.scenario.config import Config
from kuberml.scenario.stream import Task
from kuberml.worlds.simulated.devices import Device, LinkSpec, device
from kuberml.worlds.simulated.networks import graph, link, metropolis, radio_of

HUB, LIBRARY, SERVER = NodeId("hub"), NodeId("library"), NodeId("server")
Indices = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Actor:
    """One node of the run. `data`, `stages` and `learner` only where it learns; `domain` is the view of its samples."""

    node: NodeId
    keys: Keys
    device: Device
    link: LinkSpec
    learner: Learner | None = None
    data: LocalData | None = None  # all of it
    stages: tuple[Arriving, ...] = ()  # in which it comes; () = it is there from the beginning
    domain: str = "plain"
    liar: bool = False
    neighbours: tuple[NodeId, ...] = ()
    mixing: dict[NodeId, float]
    budget_bytes: int | None = None


@dataclass(frozen=True)
class Stage:
    """Everybody, and what accuracy is measured on."""

    config: Config
    seed: int
    dataset: Dataset
    learners: tuple[Actor, ...]
    services: dict[NodeId, Actor]
    tests: dict[str, DataRef]  # per domain: disjoint from everything else, label-balanced
    public: DataRef  # samples that no learner owns
    tasks: tuple[Task, ...] = ()  # of a stream

    @property
    def honest(self) -> tuple[Actor, ...]:
        """Learners that do not lie: means are over these."""
        return tuple(actor for actor in self.learners if not actor.liar)


def keys_of(seed: int, node: NodeId) -> Keys:
    """A simulated node's keys: derived from the seed, so that digests repeat. Live nodes' follow from a secret."""
    return Keys(blake3.blake3(b"kuberml.simulated.keys\0" + encode([seed, node])).digest())


def secrets_of(seed: int, node: NodeId) -> Secrets:
    """What a simulated node takes for secret: derived from the seed, like its keys, so that digests repeat."""

    def drawn(purpose: str, k: int, size_bytes: int) -> bytes:
        name = encode([seed, node, purpose, k])
        return blake3.blake3(b"kuberml.simulated.secrets\0" + name).digest(size_bytes)

    return drawn


def set_stage(config: Config, seed: int, *, common: bool, keys: Callable[[int, NodeId], Keys] = keys_of) -> Stage:
    """Deal data, devices, links and keys.

    Args:
        config: the scenario.
        seed: of this repetition.
        common: give every learner the scenario's common architecture (for paradigms that average).
        keys: of a node, from the seed and its name.

    Raises:
        ConfigError: the data set cannot be dealt that way.
    """
    dataset = DATASETS.get(config.data.dataset)
    ids = [NodeId(f"n{i:0{len(str(config.learners.count - 1))}d}") for i in range(config.learners.count)]
    parts = _deal(config, dataset, seed)
    liars = set(rng(seed, "liars").choice(len(ids), config.learners.liars, replace=False).tolist())
    edges = graph(config.places.topology, len(ids), rng(seed, "graph"), degree=config.degree)
    mixing = metropolis(edges)
    by_domains = config.data.stream is not None and config.data.stream.by == "domains"
    actors = []
    for i, node in enumerate(ids):
        domain = config.data.domains[i % len(config.data.domains)]
        relabel = _lie(dataset.labels, seed) if i in liars else {}
        data = _local(config, dataset, parts[i], domain, relabel, rng(seed, "heldout", node))
        stages = stream.stages_of(config, dataset, data, seed, node)
        if stages:
            data = together([stage.data for stage in stages])
        actors.append(
            Actor(
                node=node,
                keys=keys(seed, node),
                device=_machine(config.places.devices, config.places.links, rng(seed, "device", node)),
                link=link(config.places.links, rng(seed, "link", node)),
                learner=_learner(config, dataset, i, common=common),
                data=data,
                stages=stages,
                domain=stream.EVERY if by_domains else domain,
                liar=i in liars,
                neighbours=tuple(ids[j] for j in sorted(edges[i])),
                mixing={ids[j]: float(mixing[i][j]) for j in sorted(edges[i])},
                budget_bytes=config.learners.budget_bytes,
            )
        )
    tests = {domain: _judge(config, dataset, actors, domain) for domain in config.data.domains}
    tasks = stream.tasks_of(config, dataset, tests)
    if by_domains:
        tests[stream.EVERY] = stream.in_turn(tests)
    services, public = _services(config, dataset, seed, keys), _public(config, dataset)
    return Stage(config, seed, dataset, tuple(actors), services, tests, public, tasks)


def _machine(table: str, links: str, draws: np.random.Generator) -> Device:
    """A device, on the radio of its link: what its air time costs goes by that."""
    return msgspec.structs.replace(device(table, draws), radio=radio_of(links))


def _services(config: Config, dataset: Dataset, seed: int, keys: Callable[[int, NodeId], Keys]) -> dict[NodeId, Actor]:
    def service(node: NodeId, learner: Learner | None = None) -> Actor:
        return Actor(
            node=node,
            keys=keys(seed, node),
            device=_machine(config.places.server_device, config.places.server_link, rng(seed, "device", node)),
            link=link(config.places.server_link, rng(seed, "link", node)),
            learner=learner,
            mixing={},
        )

    averaged = _learner(config, dataset, 0, common=True)
    return {HUB: service(HUB), LIBRARY: service(LIBRARY), SERVER: service(SERVER, averaged)}


def _learner(config: Config, dataset: Dataset, position: int, *, common: bool) -> Learner:
    """The learner at a position: architectures are dealt in turn, or everybody has the common one."""
    chosen = config.learners
    if chosen.adapter == "sklearn":
        return scikit_learner(chosen.estimator, dict(chosen.params), dataset)
    architecture = config.common_model if common else chosen.models[position % len(chosen.models)]
    return torch_learner(architecture, dataset, dict(chosen.options.get(architecture, {})), chosen.device)


def _deal(config: Config, dataset: Dataset, seed: int) -> list[Indices]:
    part = dataset.part("train")
    chosen = np.arange(len(part.y_N), dtype=np.int32)
    if config.data.limit:
        chosen = np.sort(rng(seed, "limit").permutation(chosen)[: config.data.limit])
    by = part.y_N if config.data.partition != "natural" else part.group_N
    if by is None:
        raise ConfigError(f"data.partition = 'natural': data set {dataset.name!r} has no natural owners")
    options = dict(config.data.options)
    parts = partition(config.data.partition, np.asarray(by)[chosen], config.learners.count, rng(seed, "partition"), **options)
    return [chosen[indices] for indices in parts]


def _local(
    config: Config,
    dataset: Dataset,
    indices: Indices,
    domain: str,
    relabel: dict[LabelId, LabelId],
    chance: np.random.Generator,
) -> LocalData:
    """A learner's samples, split per label into training and held-out: one of each label trains at least."""
    y_N = np.asarray(dataset.part("train").y_N)[indices]
    train: list[Indices] = []
    heldout: list[Indices] = []
    counts: dict[LabelId, int] = {}
    for label in np.unique(y_N):
        mine = chance.permutation(indices[y_N == label])
        kept = min(round(config.data.heldout * len(mine)), len(mine) - 1)
        heldout.append(mine[:kept])
        train.append(mine[kept:])
        name = dataset.labels[int(label)]
        counts[relabel.get(name, name)] = counts.get(relabel.get(name, name), 0) + len(mine) - kept
    refs = [
        DataRef(
            dataset.name, "train", np.sort(np.concatenate([np.zeros(0, np.int32), *some])).astype(np.int32), domain, relabel
        )
        for some in (train, heldout)
    ]
    return LocalData(refs[0], refs[1], {name: count for name, count in sorted(counts.items()) if count})


def _lie(labels: tuple[LabelId, ...], seed: int) -> dict[LabelId, LabelId]:
    """What liars call each label: the labels turned by some places. They agree on it, so they confirm each other."""
    turn = int(rng(seed, "lie").integers(1, len(labels)))
    return {label: labels[(place + turn) % len(labels)] for place, label in enumerate(labels)}


def _judge(config: Config, dataset: Dataset, actors: Sequence[Actor], domain: str) -> DataRef:
    """What accuracy is measured on in a domain: label-balanced; the test split, or, to tune, public or all held-out samples."""
    if config.data.judge != "heldout":
        every = np.arange(dataset.size(config.data.judge), dtype=np.int32)
        return _balanced(dataset, config.data.judge, every, domain)
    held = [actor.data.heldout.indices_N for actor in actors if actor.data is not None and not actor.liar]
    return _balanced(dataset, "train", np.sort(np.concatenate(held)), domain)


def _balanced(dataset: Dataset, split: str, indices: Indices, domain: str) -> DataRef:
    """As many samples of every label as of the rarest, in the data set's order. Raises ConfigError: a label has none."""
    y_N = np.asarray(dataset.part(split).y_N)[indices]
    counts = [int(np.sum(y_N == label)) for label in range(len(dataset.labels))]
    least = min(counts)
    if not least:
        raise ConfigError(
            f"accuracy is judged on all labels alike, and there is no sample of {dataset.labels[counts.index(0)]!r}"
        )
    chosen = np.concatenate([indices[y_N == label][:least] for label in range(len(dataset.labels))])
    return DataRef(dataset.name, split, np.sort(chosen).astype(np.int32), domain)


def _public(config: Config, dataset: Dataset) -> DataRef:
    split = "public" if "public" in dataset.splits else "train"
    count = min(config.data.public or dataset.size(split), dataset.size(split)) if split == "public" else 0
    return DataRef(dataset.name, split, np.arange(count, dtype=np.int32))
