"""D-PSGD: no server; in every round each node trains a little and averages with its neighbours.

X. Lian, C. Zhang, H. Zhang, C. Hsieh, W. Zhang, J. Liu: Can Decentralized Algorithms Outperform Centralized Algorithms?
NeurIPS 2017, algorithm 1, with local steps and Metropolis weights: a_ij = 1 / (1 + max(degree_i, degree_j)).
"""

from __future__ import annotations

from kuberml.core.ranges import NonNegative, Whole
from kuberml.core.rng import seed_of
from kuberml.exchange.node import Node, OverBudget
from kuberml.exchange.states import packed, take_state
from kuberml.learning.averaging import Mean
from kuberml.learning.jobs import fit, init_state
from kuberml.learning.predictor import Network
from kuberml.paradigms.options import Training

COMMON_MODEL = True
"""States are averaged or sent back: everybody has the same architecture."""


class Config(Training, frozen=True, kw_only=True):
    """Options. `patience_s`: how long to wait for a neighbour's model of this round before its last one is taken."""

    rounds: Whole = 20
    patience_s: NonNegative = 600.0


async def peer(node: Node, cfg: Config) -> None:
    """Train, publish, read the neighbours, mix. Everybody starts from the same point."""
    start = seed_of(node.place.seed, "dpsgd", "init")
    node.memory.setdefault(round=0, state=await node.compute(init_state, node.learner, start))
    try:
        await gossip(node, cfg)
    except OverBudget as error:
        node.record("spent", why=str(error))


async def gossip(node: Node, cfg: Config) -> None:
    """The rounds."""
    for r in range(node.memory.round, cfg.rounds):
        state = await node.compute(fit, node.learner, node.memory.state, node.data.train, cfg.plan, node.seed("fit", r))
        await node.publish(packed(state), slot="model", version=r, keep=2, listed=False)
        near = await node.latest(node.neighbours, slot="model", timeout_s=cfg.patience_s, at_least=r)
        mean, left = Mean(), 1.0
        for offer in near:
            weight, theirs = node.mixing[offer.holders[0]], await take_state(node, offer, state)
            if theirs is not None:
                mean.add(theirs, weight)
                left -= weight
        mean.add(state, left)
        node.memory.update(round=r + 1, state=mean.result(state))
        node.deploy(Network(node.learner, node.memory.state), learned=[offer.signed for offer in near])
