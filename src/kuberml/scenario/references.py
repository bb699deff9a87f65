"""What a run is held against: the pooled reference, and an oracle that tries everything on the test set (nobody else may)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, combinations
from typing import Any

import numpy as np

from kuberml.core.ids import NodeId
from kuberml.core.jobs import job
from kuberml.knowledge.card import Knowledge, decode_card
from kuberml.knowledge.grid import quantise
from kuberml.knowledge.kinds.statistics import Statistics, merge_all
from kuberml.knowledge.pack import open_value
from kuberml.knowledge.threads import one_thread
from kuberml.learning.datasets import samples
from kuberml.learning.extractors import features
from kuberml.learning.jobs import describe_own, solve_head
from kuberml.learning.predictor import HeadOn
from kuberml.learning.types import DataRef
from kuberml.scenario.played import Played

ORACLE_PACKETS = 11
"""2^11 subsets are tried; with more packets the oracle is greedy."""

ORACLE_DIMS = 512
"""With more features the oracle's hundreds of solves would take longer than the run."""

BATCH = 256
"""Choices tried at once: memory for as many Gram matrices and answers."""


def pooled_reference(play: Played, score: Any) -> float | None:
    """Accuracy of one head on the sum of all honest packets *as published*, mean over honest learners. None without packets."""
    packets = published_statistics(play)
    honest = [packets[actor.node] for actor in play.stage.honest if actor.node in packets]
    if not honest:
        return None
    head = HeadOn(play.things.extractor, solve_head(merge_all(honest)), play.stage.dataset.shape)
    domains = sorted({actor.domain for actor in play.stage.honest})
    found = dict(zip(domains, score([(head, play.stage.tests[domain]) for domain in domains]), strict=True))
    return float(np.mean([found[actor.domain].accuracy for actor in play.stage.honest]))


def published_statistics(play: Played) -> dict[str, Statistics]:
    """Each node's newest published packet of its own data; what somebody made of others' packets is left out."""
    found: dict[str, Statistics] = {}
    for note in play.notes.of("published"):
        if note.fields["kind"] == "statistics" and not note.fields["parents"]:
            store = play.world.store(note.node)
            signed = decode_card(store.card(note.fields["card"]))
            found[note.node] = open_value(Knowledge(signed, tuple(store.get(ref.digest) for ref in signed.card.blobs)))
    return found


def regret(play: Played, reached: dict[NodeId, float], score: Any) -> float | None:
    """Mean of (best accuracy over every choice of packets) - (accuracy reached), over honest learners that serve a head.

    The oracle judges by the test set itself, which no learner may see: nothing that chooses by evidence can beat it on average.
    None where heads on statistics are not what is served, and beyond ORACLE_DIMS features.
    """
    served = {node: play.watch.serving(node, 1 << 62) for node in reached}
    if not all(model and isinstance(play.watch.predictors[model], HeadOn) for model in served.values()):
        return None
    packets = published_statistics(play)
    if not reached or not packets or play.config.paradigms[play.label].use != "kuber":
        return None
    if max(packet.dims for packet in packets.values()) > ORACLE_DIMS:
        return None
    gaps = []
    for actor in play.stage.honest:
        if actor.node not in reached:
            continue  # cut off from the beginning: it serves nothing
        assert actor.data is not None
        others = [packet for node, packet in sorted(packets.items()) if node != actor.node]
        own, _, _ = describe_own(play.things.extractor, actor.data.train, 1, others[0].step_log2 if others else 8)
        best = best_choice(play.things.extractor, own, others, play.stage.tests[actor.domain])
        gaps.append(best - reached[actor.node])
    return float(np.mean(gaps))


@job(flops=lambda extractor, own, others, test: 0)
def best_choice(extractor: Any, own: Statistics, others: list[Statistics], test: DataRef) -> float:
    """The best balanced accuracy that any subset of `others`, added to `own`, reaches on `test`.

    Heads are solved with the ridge that cross-validation chooses for the sum of all. With more than ORACLE_PACKETS packets the
    oracle adds greedily, the best one first.
    """
    oracle = _Oracle(extractor, own, others, test)
    every = range(len(others))
    if len(others) <= ORACLE_PACKETS:
        return oracle.best(chain.from_iterable(combinations(every, size) for size in range(len(others) + 1)))[0]
    best, chosen = oracle.best([()])
    while len(chosen) < len(others):
        found = oracle.best([(*chosen, i) for i in every if i not in chosen])
        if found[0] <= best:
            break
        best, chosen = found
    return best


class _Oracle:
    """Sums of every packet over one label set, and the test features: choices are tried in batches."""

    def __init__(self, extractor: Any, own: Statistics, others: list[Statistics], test: DataRef) -> None:
        local = samples(test)
        whole = merge_all([own, *others])
        self._ridge = solve_head(whole).ridge
        self._labels = [local.labels.index(label) for label in whole.labels]
        self._y_N, self._classes = local.y_N, len(local.labels)
        self._z_Nd = quantise(features(extractor, local.x_N), own.grid) / 2.0**own.step_log2
        self._gram_Pdd = np.stack([packet.gram_dd / packet.gram_unit for packet in (own, *others)])
        self._sums_PdC = np.stack([_spread(packet, whole.labels) for packet in (own, *others)])

    def best(self, choices: Iterable[tuple[int, ...]]) -> tuple[float, tuple[int, ...]]:
        """The highest accuracy and its choice; of equals the first."""
        waiting, found = list(choices), []
        for start in range(0, len(waiting), BATCH):
            part = waiting[start : start + BATCH]
            found += list(zip(self._accuracies(part), part, strict=True))
        return max(found, key=lambda pair: pair[0])

    def _accuracies(self, choices: list[tuple[int, ...]]) -> list[float]:
        taken_KP = np.zeros((len(choices), len(self._gram_Pdd)))
        for row, choice in enumerate(choices):
            taken_KP[row, [0, *(i + 1 for i in choice)]] = 1
        gram_Kdd = np.tensordot(taken_KP, self._gram_Pdd, 1)
        diagonal = np.arange(gram_Kdd.shape[1])
        gram_Kdd[:, diagonal, diagonal] += self._ridge
        with one_thread():
            heads_KdC = np.linalg.solve(gram_Kdd, np.tensordot(taken_KP, self._sums_PdC, 1))
            answers_KN = np.argmax(self._z_Nd @ heads_KdC, axis=2)
        right_KN = np.array(self._labels)[answers_KN] == self._y_N
        recalls = [right_KN[:, self._y_N == label].mean(axis=1) for label in range(self._classes)]
        return [float(accuracy) for accuracy in np.mean(recalls, axis=0)]


def _spread(packet: Statistics, labels: tuple[str, ...]) -> Any:
    sums_dC = np.zeros((len(packet.gram_dd), len(labels)))
    sums_dC[:, [labels.index(label) for label in packet.labels]] = packet.sums_dC / packet.sums_unit
    return sums_dC
