"""Nothing moves: each learner trains on its own data, as far as that takes it. What every way of sharing must beat."""

from __future__ import annotations

from kuberml.core.ranges import Count
from kuberml.exchange.node import Node
from kuberml.learning.jobs import fit, init_state
from kuberml.learning.predictor import Network
from kuberml.paradigms.options import Training


class Config(Training, frozen=True, kw_only=True):
    """Options."""

    epochs: Count = 20


async def peer(node: Node, cfg: Config) -> None:
    """Train, and serve what came out."""
    start = await node.compute(init_state, node.learner, node.seed("init"))
    state = await node.compute(fit, node.learner, start, node.data.train, cfg.plan, node.seed("fit"))
    node.memory.state = state
    node.deploy(Network(node.learner, state))
