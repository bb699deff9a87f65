"""Accuracy along a run: what each learner served when, scored afterwards on data that nobody in the run has seen.

Measuring takes no virtual time and no bytes: a node's `deploy` only leaves a note here. Equal predictors are scored once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kuberml.core.ids import Digest, LabelId, NodeId
from kuberml.core.shelf import Shelf
from kuberml.core.values import digest, dumps, loads
from kuberml.learning.types import DataRef, Scores

AT_ONCE = 128
"""Predictors in memory while they are scored."""

Scorer = Callable[[Sequence[tuple[Any, DataRef]]], list[Scores]]
"""Scores predictors on data, in order; may use many processes."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What the whole world has spent at one instant."""

    moved_bytes: int
    energy_mj: int


@dataclass(frozen=True, slots=True)
class Deployment:
    """One node began to serve one predictor."""

    time_ns: int
    node: NodeId
    model: Digest
    spent: Spent
    fresh_ms: tuple[int, ...]  # age of each piece of knowledge that was new in it


class Predictors(Mapping[Digest, Any]):
    """All that was served, by digest; read anew each time, because together it may be more than memory holds."""

    def __init__(self) -> None:
        self._shelf = Shelf()

    def add(self, model: Digest, predictor: Any) -> None:
        """Keep one under its digest, unless it is here."""
        if model not in self._shelf:
            self._shelf[model] = dumps(predictor)

    def __getitem__(self, model: Digest) -> Any:
        return loads(self._shelf[model])

    def __iter__(self) -> Iterator[Digest]:
        return (Digest(name) for name in self._shelf)

    def __len__(self) -> int:
        return len(self._shelf)


class Watch:
    """An `exchange.Observer` that notes every deployment."""

    def __init__(self, now_ns: Callable[[], int], spent: Callable[[], Spent]) -> None:
        self._now_ns, self._spent = now_ns, spent
        self.deployments: list[Deployment] = []
        self._of: dict[NodeId, list[Deployment]] = {}
        self.predictors = Predictors()

    def deployed(self, node: NodeId, model: Digest, predictor: Any, learned_at_ms: tuple[int, ...]) -> None:
        """See `Observer`."""
        self.predictors.add(model, predictor)
        now_ns = self._now_ns()
        ages = tuple(now_ns // 1_000_000 - learned for learned in learned_at_ms)
        self.deployments.append(Deployment(now_ns, node, model, self._spent(), ages))
        self._of.setdefault(node, []).append(self.deployments[-1])

    def serving(self, node: NodeId, time_ns: int) -> Digest | None:
        """What a node served at a time; None before its first."""
        mine = self._of.get(node, [])
        place = bisect_right(mine, time_ns, key=lambda one: one.time_ns)
        return mine[place - 1].model if place else None

    def first(self, node: NodeId) -> Digest | None:
        """What a node served first; None if it never served."""
        return self._of[node][0].model if node in self._of else None

    def times(self, points: int) -> list[int]:
        """At most `points` instants at which something changed, the last among them, spread evenly over the changes."""
        changes = sorted({one.time_ns for one in self.deployments})
        if len(changes) <= points:
            return changes
        return sorted({changes[-1], *(changes[round(i * (len(changes) - 1) / (points - 1))] for i in range(points - 1))})

    def spent_at(self, time_ns: int) -> Spent:
        """What had been spent when the last deployment up to a time was made."""
        before = [one.spent for one in self.deployments if one.time_ns <= time_ns]
        return before[-1] if before else Spent(0, 0)

    @property
    def freshness_s(self) -> list[float]:
        """Seconds from learned at A to used at B, one for each piece of knowledge that came into use somewhere."""
        return [age / 1000 for one in self.deployments for age in one.fresh_ms]


class Board:
    """Scores of predictors, each computed once."""

    def __init__(self, predictors: Mapping[Digest, Any], scorer: Scorer) -> None:
        self._predictors, self._scorer = predictors, scorer
        self._scores: dict[tuple[Digest, Digest], Scores] = {}

    def score(self, asked: Sequence[tuple[Digest, DataRef]]) -> list[Scores]:
        """Scores of (predictor, data) pairs, in order."""
        digests = {id(data): digest(data) for data in {id(data): data for _, data in asked}.values()}  # most ask about one set
        keys = [(model, digests[id(data)]) for model, data in asked]
        new = {key: pair for key, pair in zip(keys, asked, strict=True) if key not in self._scores}
        waiting = list(new.items())
        for start in range(0, len(waiting), AT_ONCE):
            some = waiting[start : start + AT_ONCE]
            found = self._scorer([(self._predictors[model], data) for _, (model, data) in some])
            self._scores.update(zip((key for key, _ in some), found, strict=True))
        return [self._scores[key] for key in keys]


def on_mix(scores: Scores, counts: dict[LabelId, int]) -> float:
    """Accuracy on a learner's own label mix: the recalls on the test set, weighted by its own label shares."""
    recall, total = scores.recall(), sum(counts.values())
    return sum(recall.get(label, 0.0) * count for label, count in counts.items()) / total if total else float("nan")
