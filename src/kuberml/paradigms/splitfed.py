"""SplitFed: split learning whose clients train at the same time; their parts are averaged after every round, as in FedAvg.

C. Thapa, M. A. P. Chamikara, S. Camtepe, L. Sun: SplitFed: When Federated Learning Meets Split Learning. AAAI 2022 (arXiv
2004.12088), algorithms 1 and 2. `variant = 1` (SFLV1): the server trains a copy of its part for each client, and averages the
copies too. `variant = 2` (SFLV2): one server part, which takes a step for every batch of every client; the paper draws the
order of clients, here batches are taken as they come. The paper's two servers are one node. Means are weighted by samples.
"""

from __future__ import annotations

import asyncio
from typing import Literal

from kuberml.core.ids import NodeId
from kuberml.core.ranges import Share
from kuberml.exchange.node import Node
from kuberml.exchange.split_turns import Body, Turn
from kuberml.learning.averaging import Mean
from kuberml.learning.jobs import init_state
from kuberml.learning.split import Split
from kuberml.learning.types import Array
from kuberml.paradigms import split
from kuberml.paradigms.fedavg import hand_out
from kuberml.paradigms.split import client

__all__ = ["Config", "client", "server"]

COMMON_MODEL = True
"""States are averaged or sent back: everybody has the same architecture."""

TURNS = 2**14
"""Turns of a round at most, for their numbers."""


class Config(split.Config, frozen=True, kw_only=True):
    """Options: those of split learning, and FedAvg's `cohort`."""

    variant: Literal[1, 2] = 1
    cohort: Share = 1.0


async def server(node: Node, cfg: Config) -> None:
    """Turns of a cohort side by side, then means, in the order of the cohort. A restarted server does its round again."""
    parts = cfg.parts(node)
    weights_P = await node.compute(init_state, node.learner, node.seed("init"))
    node.memory.setdefault(round=0, weights=weights_P)
    for r in range(node.memory.round, cfg.rounds):
        clients = node.peers("client")
        size = max(1, round(cfg.cohort * len(clients)))
        cohort = sorted(node.rng("cohort", r).choice(clients, size, replace=False).tolist()) if clients else []
        node.memory.update(round=r + 1, weights=await one_round(node, cfg, parts, r, cohort))
        if cfg.hand_out and (r + 1) % cfg.hand_out == 0 and r + 1 < cfg.rounds:
            await hand_out(node, cfg, r + 1)
    await hand_out(node, cfg, cfg.rounds)


async def one_round(node: Node, cfg: Config, parts: Split, r: int, cohort: list[NodeId]) -> Array:
    """The whole network after a round."""
    before = parts.divide(node.memory.weights)
    own = {name: part for name, part in before.items() if name != "body"}
    shared = Body(node, parts, cfg.plan, before["body"])

    async def turn(name: NodeId, number: int) -> tuple[dict[str, Array], int] | None:
        for _ in range(cfg.tries):
            body = shared if cfg.variant == 2 else Body(node, parts, cfg.plan, before["body"])
            found = await Turn(node, name, number, cfg.deadline_s).run(own, body)
            if found is not None:
                return {**found[0], "body": body.weights_F}, found[1]
        return None

    turns = await asyncio.gather(*(turn(name, r * TURNS + place) for place, name in enumerate(cohort)))
    means = {name: Mean() for name in before}
    for found in turns:
        for name, mean in means.items() if found is not None else ():
            mean.add(found[0][name], weight=found[1])  # type: ignore[index]
    after = {name: mean.result(before[name]) for name, mean in means.items()}
    return parts.join(after if cfg.variant == 1 else {**after, "body": shared.weights_F})
