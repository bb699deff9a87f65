"""FedAvg where only a head travels: everybody has the same frozen extractor, and a softmax head on it is trained and averaged.

The rounds are those of `fedavg` (McMahan et al., AISTATS 2017); what is learned is linear, so they converge quickly, and a
head is small. The extractor is delivered once and its bytes count.
"""

from __future__ import annotations

import asyncio

from kuberml.exchange.node import Node
from kuberml.exchange.public import head_learner
from kuberml.paradigms.fedavg import Config, follow, rounds

__all__ = ["Config", "client", "server"]

PUBLIC = ("extractor",)
"""Public things that it uses; a world has them published."""


async def server(node: Node, cfg: Config) -> None:
    """The rounds of FedAvg over heads."""
    await rounds(node, cfg, await head_learner(node))


async def client(node: Node, cfg: Config) -> None:
    """Fit the head on private features when asked."""
    await follow(node, cfg, asyncio.ensure_future(head_learner(node)))
