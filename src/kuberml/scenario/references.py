"""What a run is held against: the pooled reference, and an oracle that tries everything on the test set (nobody else may)."""

from __future__ import annotations

from itertools import chain, combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from kuberml.core.jobs import job
from kuberml.exchange.exact_head import ExactHead
from kuberml.knowledge.card import Knowledge, decode_card
from kuberml.knowledge.kinds.statistics import Statistics, merge_all
from kuberml.knowledge.pack import open_value
from kuberml.learning.datasets import samples
from kuberml.learning.extractors import features
from kuberml.learning.jobs import describe_data, solve_head
from kuberml.learning.predictor import HeadOn
from kuberml.learning.types import DataRef

if TYPE_CHECKING:
    from kuberml.scenario.play import Play

ORACLE_PACKETS = 11
"""2^11 subsets are tried; with more packets the oracle is greedy."""


def pooled_reference(play: Play, score: Any) -> float | None:
    """Accuracy of one head on the sum of all honest packets *as published*, mean over honest learners. None without packets."""
    packets = published_statistics(play)
    honest = [packets[actor.node] for actor in play.stage.honest if actor.node in packets]
    if not honest:
        return None
    head = HeadOn(play.things.extractor, solve_head(merge_all(honest)), play.stage.dataset.shape)
    domains = sorted({actor.domain for actor in play.stage.honest})
    found = dict(zip(domains, score([(head, play.stage.tests[domain]) for domain in domains]), strict=True))
    return float(np.mean([found[actor.domain].accuracy for actor in play.stage.honest]))


def published_statistics(play: Play) -> dict[str, Statistics]:
    """Each node's newest published packet."""
    found: dict[str, Statistics] = {}
    for note in play.notes.of("published"):
        if note.fields["kind"] == "statistics":
            store = play.world.store(note.node)
            signed = decode_card(store.card(note.fields["card"]))
            found[note.node] = open_value(Knowledge(signed, tuple(store.get(ref.digest) for ref in signed.card.blobs)))
    return found


def regret(play: Play, reached: dict[str, float], score: Any) -> float | None:
    """Mean of (best accuracy over every choice of packets) - (accuracy reached), over honest learners that serve a head.

    The oracle judges by the test set itself, which no learner may see: nothing that chooses by evidence can beat it on average.
    None where heads on statistics are not what is served.
    """
    served = {node: play.watch.serving(node, 1 << 62) for node in reached}
    if not all(model and isinstance(play.watch.predictors[model], HeadOn) for model in served.values()):
        return None
    packets = published_statistics(play)
    if not packets or not isinstance(play.options, _kuber_config()):
        return None
    gaps = []
    for actor in play.stage.honest:
        assert actor.data is not None
        others = [packet for node, packet in sorted(packets.items()) if node != actor.node]
        own, _ = describe_data(play.things.extractor, actor.data.train, 1)
        best = score_choices(play.things.extractor, own, others, play.stage.tests[actor.domain])
        gaps.append(best - reached[actor.node])
    return float(np.mean(gaps))


@job(flops=lambda extractor, own, others, test: 0)
def score_choices(extractor: Any, own: Statistics, others: list[Statistics], test: DataRef) -> float:
    """The best balanced accuracy that any subset of `others`, added to `own`, reaches on `test`."""
    local = samples(test)
    z_Nd = features(extractor, local.x_N)
    every = range(len(others))
    if len(others) <= ORACLE_PACKETS:
        choices = chain.from_iterable(combinations(every, size) for size in range(len(others) + 1))
        return max(_accuracy(own, others, choice, z_Nd, local) for choice in choices)
    chosen: tuple[int, ...] = ()
    best = _accuracy(own, others, chosen, z_Nd, local)
    while True:
        tried = {(*chosen, i): _accuracy(own, others, (*chosen, i), z_Nd, local) for i in every if i not in chosen}
        if not tried or max(tried.values()) <= best:
            return best
        chosen = max(tried, key=lambda choice: tried[choice])
        best = tried[chosen]


def _accuracy(own: Statistics, others: list[Statistics], choice: tuple[int, ...], z_Nd: Any, local: Any) -> float:
    head = solve_head(merge_all([own, *(others[i] for i in choice)]))
    names = np.array([local.labels.index(label) for label in head.labels])
    right = names[np.argmax(head.scores(z_Nd), axis=1)] == local.y_N
    return float(np.mean([right[local.y_N == label].mean() for label in range(len(local.labels))]))


def _kuber_config() -> type:
    from kuberml.paradigms.kuber import Config

    assert ExactHead
    return Config
