"""Data that come over time (`[data.stream]`): which tasks there are, and in which stages each learner meets them.

by = "labels"    a task is a run of the data set's labels (class-incremental); a learner's samples of them are a stage
by = "domains"   a task is one view of all labels (domain-incremental); each stage is another part of a learner's samples

Nothing is dealt twice: a learner's stages together are its samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kuberml.core.ids import LabelId, NodeId
from kuberml.core.rng import rng
from kuberml.exchange.place import LocalData, Stage
from kuberml.learning.datasets import Dataset
from kuberml.learning.types import DataRef
from kuberml.learning.views import chosen, joined
from kuberml.scenario.config import Config

EVERY = "every domain"
"""The test set of a learner that meets all domains, beside those of single ones."""


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a stream.

    Attributes:
        name: its labels, or its domain.
        labels: that it has.
        test: what it is measured on, of these labels and this domain alone.
    """

    name: str
    labels: tuple[LabelId, ...]
    test: DataRef


def tasks_of(config: Config, dataset: Dataset, tests: Mapping[str, DataRef]) -> tuple[Task, ...]:
    """The tasks of a scenario's stream; () without one. With several domains, tasks of labels are measured in the first."""
    stream = config.data.stream
    if stream is None:
        return ()
    if stream.by == "domains":
        return tuple(Task(domain, dataset.labels, tests[domain]) for domain in config.data.domains)
    test = tests[config.data.domains[0]]
    return tuple(Task("+".join(labels), labels, _of(dataset, test, labels)) for labels in _groups(dataset, stream.tasks))


def in_turn(tests: Mapping[str, DataRef]) -> DataRef:
    """The test set of who meets all domains: each sample once, in one domain after the other."""
    every = len(tests)
    return joined([chosen(test, range(i, len(test), every)) for i, test in enumerate(tests.values())])


def order_of(config: Config, seed: int, node: NodeId) -> list[int]:
    """The positions of the tasks in the order in which a learner meets them."""
    assert config.data.stream is not None, "only a stream has an order"
    every = list(range(config.data.stream.tasks))
    return every if config.data.stream.order == "same" else rng(seed, "stream", node).permutation(every).tolist()


def stages_of(config: Config, dataset: Dataset, data: LocalData, seed: int, node: NodeId) -> tuple[Stage, ...]:
    """A learner's data in stages, one for each task of which it has samples; () without a stream."""
    stream = config.data.stream
    if stream is None:
        return ()
    parts = _by_labels(dataset, data, stream.tasks) if stream.by == "labels" else _by_domains(config, dataset, data, seed, node)
    order = order_of(config, seed, node)
    there = [(place, parts[task]) for place, task in enumerate(order) if len(parts[task].train) or len(parts[task].heldout)]
    return tuple(Stage(place * stream.every_s, part) for place, part in there)


def _groups(dataset: Dataset, tasks: int) -> list[tuple[LabelId, ...]]:
    """The labels in runs, as even as may be."""
    return [tuple(dataset.labels[i] for i in run) for run in np.array_split(np.arange(len(dataset.labels)), tasks)]


def _by_labels(dataset: Dataset, data: LocalData, tasks: int) -> list[LocalData]:
    groups = _groups(dataset, tasks)
    return [_local(dataset, _of(dataset, data.train, labels), _of(dataset, data.heldout, labels)) for labels in groups]


def _of(dataset: Dataset, ref: DataRef, labels: Sequence[LabelId]) -> DataRef:
    """Those of a reference's samples that have one of these labels."""
    y_N = np.asarray(dataset.part(ref.split).y_N)[ref.indices_N]
    return chosen(ref, np.flatnonzero(np.isin(y_N, [dataset.labels.index(label) for label in labels])))


def _by_domains(config: Config, dataset: Dataset, data: LocalData, seed: int, node: NodeId) -> list[LocalData]:
    """Each label's samples are dealt to the domains in turn, in an order of chance."""
    y_N, domains = np.asarray(dataset.part("train").y_N), config.data.domains
    chance = rng(seed, "domains", node)

    def dealt(ref: DataRef) -> list[DataRef]:
        shuffled = chance.permutation(ref.indices_N)
        by_label = shuffled[np.argsort(y_N[shuffled], kind="stable")]
        parts = [np.sort(by_label[i :: len(domains)]).astype(np.int32) for i in range(len(domains))]
        return [DataRef(ref.dataset, ref.split, part, view, ref.relabel) for part, view in zip(parts, domains, strict=True)]

    return [_local(dataset, train, held) for train, held in zip(dealt(data.train), dealt(data.heldout), strict=True)]


def _local(dataset: Dataset, train: DataRef, heldout: DataRef) -> LocalData:
    y_N = np.asarray(dataset.part("train").y_N)[train.indices_N]
    counts: dict[LabelId, int] = {}
    for position, count in zip(*np.unique(y_N, return_counts=True), strict=True):
        name = dataset.labels[int(position)]
        called = train.relabel.get(name, name)
        counts[called] = counts.get(called, 0) + int(count)
    return LocalData(train, heldout, dict(sorted(counts.items())))
