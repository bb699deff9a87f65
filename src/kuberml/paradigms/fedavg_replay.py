"""FedAvg with replay: a client trains on what came last and on a bounded buffer of exemplars of what came before.

The buffer holds equally many exemplars of every class met, and drops some of each when a new one comes, as S.-A. Rebuffi et
al.: iCaRL, CVPR 2017 (arXiv 1611.07725) does; here they are drawn by chance, as in A. Chaudhry et al.: On Tiny Episodic
Memories in Continual Learning, arXiv 1902.10486 (2019). With `balance` exemplars are shown so often that each class counts
alike, else a small buffer is outvoted by the new data. What a client keeps never leaves it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from msgspec import Meta

from kuberml.core.ids import LabelId
from kuberml.core.rng import rng
from kuberml.exchange.node import Node
from kuberml.exchange.place import LocalData, Stage
from kuberml.learning.datasets import DATASETS
from kuberml.learning.types import DataRef
from kuberml.learning.views import chosen, joined
from kuberml.paradigms import sequential
from kuberml.paradigms.sequential import COMMON_MODEL, PUBLIC, server

__all__ = ["COMMON_MODEL", "PUBLIC", "Config", "client", "rehearsed", "server"]


class Config(sequential.Config, frozen=True, kw_only=True):
    """Options.

    Attributes:
        buffer: exemplars that a client keeps of all that came before.
        balance: repeat exemplars until every class of every stage counts as much as one that is new; else each is shown once.
    """

    buffer: Annotated[int, Meta(ge=0)] = 200
    balance: bool = True


async def client(node: Node, cfg: Config) -> None:
    """Fit what came last, and rehearse."""
    seed = node.seed("exemplars")
    await sequential.learn_from(node, cfg, lambda stages: rehearsed(stages, cfg.buffer, seed, balance=cfg.balance))


def rehearsed(stages: Sequence[Stage], buffer: int, seed: int, *, balance: bool) -> LocalData:
    """The last stage, and exemplars of those before: a pure function, so that nothing is lost with a crash.

    Of a group (a label in a stage) the first buffer // groups of an order of chance are kept: what was dropped once stays away.
    """
    new = stages[-1].data
    groups = [group for stage in stages[:-1] for group in _by_label(stage.data.train)]
    share = buffer // len(groups) if groups else 0
    if not share:
        return new
    kept = [chosen(group, rng(seed, "exemplars", k).permutation(len(group))[:share]) for k, group in enumerate(groups)]
    wanted = len(new.train) / max(1, len(_by_label(new.train)))
    times = [max(1, round(wanted / len(one))) if balance else 1 for one in kept]
    shown = [one for one, often in zip(kept, times, strict=True) for _ in range(often)]
    counts = Counter(new.counts)
    for one in kept:
        counts.update({_called(one): len(one)})
    return LocalData(joined([new.train, *shown]), new.heldout, dict(sorted(counts.items())))


def _by_label(ref: DataRef) -> list[DataRef]:
    y_N = np.asarray(DATASETS.get(ref.dataset).part(ref.split).y_N)[ref.indices_N]
    return [chosen(ref, np.flatnonzero(y_N == label)) for label in np.unique(y_N)]


def _called(ref: DataRef) -> LabelId:
    """What the samples of one label are called here."""
    dataset = DATASETS.get(ref.dataset)
    name = dataset.labels[int(dataset.part(ref.split).y_N[ref.indices_N[0]])]
    return ref.relabel.get(name, name)
