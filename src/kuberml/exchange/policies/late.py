"""What becomes of updates that come after their round: they count in a later one, less the older and the more alike they are.

A. M. Abdelmoniem, A. N. Sahu, M. Canini, S. A. Fahmy: REFL: Resource-Efficient Federated Learning. EuroSys 2023 (arXiv
2111.01108), its staleness-aware aggregation: a fresh update weighs 1; one that is `behind` rounds late weighs

    (1 - beta) / (behind + 1) + beta (1 - exp(-L / L_max) / scale),        L = |u_F - (u + n u_F) / (n + 1)|^2 / |u_F|^2

where u is the late update, u_F the mean of the n fresh ones and L_max the greatest L of a round. The authors' code has the
`scale` (10); with 1 it is the paper's formula. Each weight is multiplied by what the paradigm gives that client (its samples).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kuberml.core.ids import NodeId
from kuberml.exchange.gathering import Averaging, Gathering, Stepped
from kuberml.exchange.node import Node
from kuberml.exchange.policies.options import Choice, Late
from kuberml.exchange.states import Vectors, take_vectors
from kuberml.exchange.steps.options import Steps
from kuberml.knowledge.card import SignedCard
from kuberml.knowledge.want import Offer
from kuberml.learning.averaging import Mean
from kuberml.learning.types import Array


class Asked(NamedTuple):
    """A client that has been asked to fit: in which round, on what, and what will come of it."""

    round: int
    sent: Vectors
    answer: asyncio.Future[Offer | None]


class Change(NamedTuple):
    """One client's change of what it was sent, the weight that the paradigm gives it, and how many rounds late it is."""

    by_name: Vectors
    weight: float
    behind: int


class Patient(Gathering):
    """A round ends at its deadline; who is not ready goes on, is not drawn meanwhile, and is counted when it comes.

    What is under way is not remembered: after a restart of the server it is lost, as every late update is without this.
    """

    def __init__(self, node: Node, deadline_s: float, server: Averaging, choice: Choice) -> None:
        super().__init__(node, deadline_s, server, choice)
        self._late, self._asked = choice.late, dict[NodeId, Asked]()

    async def draw(self, number: int, clients: Sequence[NodeId]) -> list[NodeId]:
        """Of those who are idle, as many as ever."""
        idle = [name for name in clients if name not in self._asked]
        most = max(1, round(self.choice.share * len(clients)))
        return await self.choosing.choose(number, idle, min(most, len(idle)))

    async def collect(
        self, number: int, cohort: Sequence[NodeId], base: Offer, sent: Vectors
    ) -> tuple[Vectors, list[SignedCard]]:
        """The round's own updates in their order, then late ones, the oldest first."""
        for name in cohort:
            self._asked[name] = Asked(number, sent, asyncio.ensure_future(self._answer(name, base)))
        await self._wait(cohort)
        changes, cards = list[Change](), list[SignedCard]()
        ready = [name for name, asked in self._asked.items() if asked.answer.done()]
        for name in sorted(ready, key=lambda one: (-self._asked[one].round, one)):
            asked = self._asked.pop(name)
            behind, offer = number - asked.round, asked.answer.result()
            if offer is None or behind > self._late.rounds:
                continue
            came, samples = await take_vectors(self.node, offer, asked.sent), sum(offer.signed.card.labels.values())
            if came is None or not samples:
                continue
            await self.server.take(came)
            moved = {entry: came[entry] - before for entry, before in asked.sent.items()}
            changes.append(Change(moved, self.server.weigh(samples), behind))
            cards.append(offer.signed)
            if behind:
                self.node.record("counted late", card=offer.signed.digest, behind=behind)
        return together(changes, sent, self._late), cards

    def close(self) -> None:
        """Whoever is still under way is not waited for."""
        for asked in self._asked.values():
            asked.answer.cancel()
        self._asked.clear()

    async def _wait(self, cohort: Sequence[NodeId]) -> None:
        """Until the cohort has answered, or the deadline; with nobody free to ask, until somebody is."""
        answers = [self._asked[name].answer for name in cohort]
        if answers:
            await asyncio.wait(answers, timeout=self.deadline_s)
        elif self._asked:
            await asyncio.wait([one.answer for one in self._asked.values()], return_when=asyncio.FIRST_COMPLETED)

    async def _answer(self, name: NodeId, base: Offer) -> Offer | None:
        patience_s = self.deadline_s * (1 + self._late.rounds)
        async for offer in self.node.ask([name], "fit", base, timeout_s=patience_s):
            return offer
        return None


def gatherer(node: Node, server: Averaging, steps: Steps, choice: Choice, *, deadline_s: float) -> Gathering:
    """What draws cohorts and gathers their updates: patiently, through the steps that are set, or plainly. Close it."""
    if choice.late.rounds:
        return Patient(node, deadline_s, server, choice)
    return Stepped(node, deadline_s, server, choice, steps) if steps else Gathering(node, deadline_s, server, choice)


def together(changes: Sequence[Change], sent: Mapping[str, Array], late: Late) -> Vectors:
    """The means by name: what was sent, and the weighted mean of the changes; what was sent, where there is none."""
    means = {name: Mean() for name in sent}
    for change, factor in zip(changes, weigh(changes, late), strict=True):
        for name, mean in means.items() if factor > 0 else ():
            mean.add(change.by_name[name], weight=change.weight * factor)
    return {name: vector + means[name].result(np.zeros_like(vector)) for name, vector in sent.items()}


def weigh(changes: Sequence[Change], late: Late) -> list[float]:
    """The factor of each change, as at the top of the file; 1 for the fresh."""
    fresh = [change for change in changes if not change.behind]
    usual = Mean()
    for change in fresh:
        usual.add(change.by_name["state"], weight=1.0)
    unlike = [deviation(change.by_name["state"], usual, len(fresh)) if change.behind else 0.0 for change in changes]
    most = max(unlike, default=0.0) or 1.0
    return [
        (1 - late.beta) / (change.behind + 1) + late.beta * (1 - float(np.exp(-apart / most)) / late.scale)
        if change.behind
        else 1.0
        for change, apart in zip(changes, unlike, strict=True)
    ]


def deviation(late_P: Array, usual: Mean, fresh: int) -> float:
    """L of a late update: how far it would move the mean of the fresh ones. 0 where there are none, or they do not move."""
    if not fresh:
        return 0.0
    mean_P = usual.result(late_P).astype(np.float64)
    length = float(mean_P @ mean_P)
    apart_P = mean_P - (late_P + fresh * mean_P) / (fresh + 1)
    return float(apart_P @ apart_P) / length if length else 0.0
