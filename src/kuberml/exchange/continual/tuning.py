"""Candidates of the slower path: gathered from the hub, made, judged against the exact head; made again from their recipes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kuberml.core.errors import ConfigError, InternalError, RemoteError
from kuberml.core.ids import Digest, LabelId
from kuberml.core.values import digest
from kuberml.exchange.continual import gate
from kuberml.exchange.continual.intake import Intake
from kuberml.exchange.continual.rules import Rules
from kuberml.exchange.continual.slow import Compared, Recipe, Replay, against, distilled, tuned
from kuberml.exchange.node import Node
from kuberml.knowledge.kinds.extractor import Extractor, basis_of
from kuberml.knowledge.kinds.probe import Probe, probe_of
from kuberml.knowledge.kinds.prototypes import Prototypes
from kuberml.knowledge.kinds.soft_labels import SoftLabels
from kuberml.knowledge.moments import Statistics
from kuberml.knowledge.ridge import Head
from kuberml.knowledge.want import Want
from kuberml.learning.learner import Learner
from kuberml.learning.predictor import HeadOn, Predictor
from kuberml.learning.types import FitPlan

OFFERS = 64
"""Of soft labels and of prototypes that are looked at."""


@dataclass(frozen=True)
class Learned:
    """A candidate: how it was made, what answers, and how it and the exact head answer what it did not learn from."""

    recipe: Recipe
    predictor: Predictor
    recall: dict[LabelId, float]
    joint: dict[LabelId, float]
    why: str = ""
    """Why it may not be served; "" if it may."""


class Tuning:
    """Over one cloud's node."""

    def __init__(self, node: Node, extractor: Extractor, rules: Rules, probe: Probe | None, intake: Intake) -> None:
        self._node, self._extractor, self._rules, self._probe, self._intake = node, extractor, rules, probe, intake

    async def best(
        self, base: Digest, sums: Statistics, head: Head, plan: FitPlan, seed: int, learner: Learner | None
    ) -> Learned:
        """A candidate with all that others offer; if that may not be served, one of the sums alone: what came may be bad."""
        for alone in (False, True):
            recipe = await self.gather(base, plan, seed, learner, alone=alone)
            predictor = await self.make(recipe, sums, head)
            found = await self.judge(recipe, predictor, head)
            if not found.why or not (recipe.soft or recipe.prototypes):
                break
            self._node.record("not learned", model=digest(predictor), why=found.why)
        return found

    async def gather(self, base: Digest, plan: FitPlan, seed: int, learner: Learner | None, *, alone: bool = False) -> Recipe:
        """A recipe of all that fitting others offer now; `alone`: of nothing but the sums."""
        soft = [] if alone or self._probe is None else await self._offered("soft-labels", probe_of(self._probe), SoftLabels)
        near = [] if alone else await self._offered("prototypes", basis_of(self._extractor), Prototypes)
        return Recipe(base, tuple(soft), tuple(near), plan, seed, learner)

    async def make(self, recipe: Recipe, sums: Statistics, head: Head) -> Predictor:
        """What a recipe comes to.

        Raises:
            InternalError: what it names is not in the store any more.
            ConfigError: a network is to be distilled, and there is no probe.
        """
        replay = Replay(sums, self._stored(recipe.prototypes), self._stored(recipe.soft), self._probe)
        exact = HeadOn(self._extractor, head, self._node.place.shape)
        if recipe.learner is None:
            made = await self._node.compute(tuned, self._extractor, head, replay, recipe.plan, recipe.seed)
            return HeadOn(self._extractor, made, self._node.place.shape)
        if self._probe is None:
            raise ConfigError("a network is distilled on public samples: this cloud has no probe")
        network: Predictor = await self._node.compute(distilled, recipe.learner, exact, replay, recipe.plan, recipe.seed)
        return network

    async def judge(self, recipe: Recipe, predictor: Predictor, head: Head) -> Learned:
        """Whether a candidate may be served: by its gap to the exact head, which is the joint model of everything."""
        if self._probe is None or self._probe.y_N is None:
            return Learned(recipe, predictor, {}, {}, "no labelled public samples can tell whether it is better")
        exact = HeadOn(self._extractor, head, self._node.place.shape)
        found: Compared = await self._node.compute(against, exact, predictor, self._probe)
        labels, count_C = found.change.labels, found.change.count_C
        recall, joint = gate.recall(labels, found.right_C, count_C), gate.recall(labels, found.exact_C, count_C)
        return Learned(recipe, predictor, recall, joint, gate.gap(found.change, self._rules))

    async def _offered(self, kind: str, basis: Digest, sort: type[Any]) -> list[Digest]:
        offers = await self._node.find(Want(self._node.task, kinds=(kind,), bases=(basis,), limit=OFFERS))
        return sorted([offer.signed.digest for offer in offers if await self._node.take(offer, sort) is not None])

    def _stored(self, cards: Sequence[Digest]) -> list[Any]:
        try:
            return [self._intake.content(card) for card in cards]
        except (KeyError, RemoteError) as error:
            raise InternalError(f"a package of the recipe is not in the store any more: {error}") from error
