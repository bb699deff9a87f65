"""What is served now, as *one* reference: a model, its engine, and how requests to it are read. A swap replaces all of it.

Whoever answers takes the reference once and uses nothing else, so no answer can be of two versions. The one before lives on
until its last request is answered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from kuberml.core.ids import Digest, LabelId
from kuberml.exchange.continual.served import Served, Taught
from kuberml.serving.engines import Engine
from kuberml.serving.http.bodies import Form

REMEMBERED = 64
"""Models before the one that is served, of which it is still told who taught what."""


@dataclass(frozen=True, slots=True)
class Live:
    """A version that can answer.

    Attributes:
        served: which model.
        engine: computes its answers.
        form: reads its inputs.
        freshness_s: of each label that this version brought news of: from learning at an edge to being served here.
    """

    served: Served
    engine: Engine
    form: Form
    freshness_s: Mapping[LabelId, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Past:
    """What is still told of a version that was served: all but the model."""

    model: Digest
    manifest: Digest
    number: int
    labels: tuple[LabelId, ...]
    taught: Mapping[LabelId, tuple[Taught, ...]]
    since_ms: int


class Slot:
    """Holds the version that answers. Written by one thread at a time, read by any."""

    def __init__(self) -> None:
        self.now: Live | None = None
        self.swaps = 0
        """How often it was put in place."""
        self.freshness_s: dict[LabelId, float] = {}
        """Of each label, as measured when news of it were served last."""
        self._recent: OrderedDict[Digest, Past] = OrderedDict()

    def swap(self, live: Live) -> None:
        """From here on this version answers."""
        recent, new = OrderedDict(self._recent), live.served
        labels = tuple(new.predictor.labels)
        recent[new.model] = Past(new.model, new.manifest, new.number, labels, new.taught, new.since_ms)
        recent.move_to_end(new.model)
        while len(recent) > REMEMBERED:
            recent.popitem(last=False)
        self.freshness_s = {**self.freshness_s, **live.freshness_s}
        self._recent = recent
        self.now = live
        self.swaps += 1

    def past(self, model: Digest) -> Past | None:
        """A model of lately, also the one of now; None: too long ago, or never."""
        return self._recent.get(model)

    def recent(self) -> list[Past]:
        """Those that are remembered, newest first."""
        return list(reversed(self._recent.values()))


def freshness_s(before: Served | None, after: Served, now_ms: int, started_ms: int) -> dict[LabelId, float]:
    """Seconds from learning to serving, of each label that `after` has news of: the newest of the cards that are new in it.

    After a restart what is served again is no news: without anything before, only what was learned since `started_ms` counts.
    Nor is what an operator let in again: then only what was learned since counts.
    Clocks of edges may be ahead: then 0.
    """
    found: dict[LabelId, float] = {}
    for label, taught in after.taught.items():
        known = {one.card for one in before.taught.get(label, ())} if before is not None else set()
        since_ms = max(after.again_ms, 0 if before is not None else started_ms)
        fresh = [one.learned_at_ms for one in taught if one.card not in known and one.learned_at_ms >= since_ms]
        if fresh:
            found[label] = max(0.0, (now_ms - max(fresh)) / 1000)
    return found
