"""FedAvg with clients that want to ruin it: they hand in the opposite of what they have learned, tenfold."""

from __future__ import annotations

from kuberml.exchange.node import Node
from kuberml.exchange.states import Vectors, packed
from kuberml.knowledge.want import Offer
from kuberml.learning.jobs import fit
from kuberml.learning.learner import Learner
from kuberml.paradigms import fedavg
from kuberml.paradigms.fedavg import Config, server

__all__ = ["COMMON_MODEL", "Config", "client", "server"]

COMMON_MODEL = True
LIARS = ("n0", "n1")


async def client(node: Node, cfg: Config) -> None:
    """An honest one, or not."""

    async def opposite(own: Learner, r: int, start: Vectors) -> Offer:
        state = await node.compute(fit, own, start["state"], node.data.train, cfg.plan, node.seed("fit", r))
        bad = start["state"] - 10 * (state - start["state"])
        return await fedavg.hand_in(node, r, packed(bad, node.data.counts), cfg, start)

    await fedavg.follow(node, cfg, fedavg.at_once(node.learner), opposite if node.id in LIARS else None)
