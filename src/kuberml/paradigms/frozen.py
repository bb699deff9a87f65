"""A frozen model: trained on the first data that everybody had, and served for ever. What doing nothing costs.

FedAvg (H. B. McMahan et al., AISTATS 2017) after the first arrival, and nothing after it. What a service without continual
learning answers when its world goes on; whatever learns must beat it.
"""

from __future__ import annotations

from kuberml.exchange.node import Node
from kuberml.paradigms.sequential import COMMON_MODEL, PUBLIC, Config, keep_learning, learn_from

__all__ = ["COMMON_MODEL", "PUBLIC", "Config", "client", "server"]


async def server(node: Node, cfg: Config) -> None:
    """Some rounds on the first data, then it is over."""
    await keep_learning(node, cfg, arrivals=1)


async def client(node: Node, cfg: Config) -> None:
    """Fit the first data when asked."""
    await learn_from(node, cfg, lambda stages: stages[0].data)
