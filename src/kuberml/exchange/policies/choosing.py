"""Whom a server asks next. Uniformly; each by a coin; those with the best reward for their energy; the least available first.

*Energy*: A. Arouj, A. M. Abdelmoniem: Towards Energy-Aware Federated Learning on Battery-Powered Clients. FedEdge 2022 (arXiv
2208.04505), EAFL: reward = mix x utility + (1 - mix) x what is left after the round. Utility is that of F. Lai, X. Zhu,
H. V. Madhyastha, M. Chowdhury: Oort, OSDI 2021: |B| sqrt(mean of squared losses), times (T / t)^late for a client slower than
T, here the median of those known. Both terms are shares of the greatest, so that their units do not decide.
A client whose charge would not last is left out, as if it were dead.

*Available*: A. M. Abdelmoniem, A. N. Sahu, M. Canini, S. A. Fahmy: REFL, EuroSys 2023 (arXiv 2111.01108), its priority for the
least available. There each client foretells its own availability; here the server counts whom it saw.
What becomes of late updates there is in `late`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kuberml.core.ids import NodeId
from kuberml.core.rng import rng
from kuberml.exchange.crowd import Choose
from kuberml.exchange.node import Node
from kuberml.exchange.policies.options import Choice, Energy
from kuberml.exchange.policies.status import Status, statuses


class Choosing:
    """A server's choice of clients, at random."""

    def __init__(self, node: Node, choice: Choice) -> None:
        self.node, self.choice = node, choice

    def stream(self, number: int) -> np.random.Generator:
        """What is drawn from: where privacy counts on it, nobody can foresee it."""
        if not self.choice.secretly:
            return self.node.rng("cohort", number)
        return rng(int.from_bytes(self.node.secret("cohort", number)[:7], "little"), "cohort", number)

    async def choose(self, number: int, clients: Sequence[NodeId], count: int) -> list[NodeId]:
        """`count` of the clients present, sorted."""
        if not clients:
            return []
        return sorted(self.stream(number).choice(clients, count, replace=False).tolist())


class ByCoin(Choosing):
    """Each client by itself; there may be more than `count` or fewer, or none."""

    async def choose(self, number: int, clients: Sequence[NodeId], count: int) -> list[NodeId]:
        """Those whose coin says so."""
        coins = self.stream(number).random(len(clients))
        return [name for name, coin in zip(sorted(clients), coins, strict=True) if coin < self.choice.share]


class ByEnergy(Choosing):
    """See the top of the file."""

    async def choose(self, number: int, clients: Sequence[NodeId], count: int) -> list[NodeId]:
        """The best rewards, and some that were never asked before."""
        options, stream = self.choice.energy, self.stream(number)
        told = await statuses(self.node, clients, timeout_s=options.timeout_s)
        able = {name: one for name, one in told.items() if one.lasts}
        known = {name: one for name, one in able.items() if one.known}
        strange = sorted(set(able) - set(known))
        share = max(options.least, options.explore * options.fades**number)
        news = min(len(strange), max(round(share * count), count - len(known)))
        fresh = stream.choice(strange, news, replace=False).tolist() if news else []
        worth = rewards(known, options)
        best = sorted(known, key=lambda name: (-worth[name], name))[: count - news]
        self.node.record("chosen", number=number, exhausted=sorted(set(told) - set(able)), rewards=worth)
        return sorted(NodeId(name) for name in (*fresh, *best))


class ByAvailability(Choosing):
    """See the top of the file."""

    async def choose(self, number: int, clients: Sequence[NodeId], count: int) -> list[NodeId]:
        """Those who were here least often, of equal ones at random."""
        memory = self.node.memory
        seen: Mapping[str, tuple[int, int]] = memory.get("seen", {})
        if memory.get("looked", -1) < number:  # a round that is begun again is looked at once
            names = sorted({*seen, *clients})
            seen = {name: (seen.get(name, (0, 0))[0] + (name in clients), seen.get(name, (0, 0))[1] + 1) for name in names}
            memory.update(seen=seen, looked=number)
        order = self.stream(number).permutation(sorted(clients)).tolist()
        likely = {name: availability(*seen.get(name, (0, 0))) for name in order}
        return sorted(sorted(order, key=lambda name: likely[name])[:count])


def availability(present: int, looks: int) -> float:
    """How likely a client is here next time, from how often it was (the rule of succession)."""
    return (present + 1) / (looks + 2)


def rewards(known: Mapping[NodeId, Status], options: Energy) -> dict[NodeId, float]:
    """EAFL's reward of each client, 0..1."""
    if not known:
        return {}
    usual_s = float(np.median([one.fit_s for one in known.values()]))
    worth = {
        name: one.utility * (min(1.0, usual_s / one.fit_s) ** options.late if one.fit_s > 0 else 1.0)
        for name, one in known.items()
    }
    most_mj = max((one.left_mj for one in known.values() if one.left_mj is not None), default=0)
    best = max(worth.values()) or 1.0
    power = {name: 1.0 if one.left_mj is None else one.left_mj / max(1, most_mj) for name, one in known.items()}
    return {name: options.mix * worth[name] / best + (1 - options.mix) * power[name] for name in known}


def choosing(node: Node, choice: Choice) -> Choosing:
    """The server's half of a policy."""
    kinds: dict[str, type[Choosing]] = {"poisson": ByCoin, "energy": ByEnergy, "available": ByAvailability}
    made: Any = kinds.get(choice.policy, Choosing)
    chosen: Choosing = made(node, choice)
    return chosen


def among_idle(node: Node, choice: Choice) -> Choose | None:
    """The same where there are no rounds: who of the idle begins; None: drawn."""
    return None if choice.policy == "uniform" else choosing(node, choice).choose
