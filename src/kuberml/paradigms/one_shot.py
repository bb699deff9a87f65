"""One-shot averaging: every client trains a head to the end, and the server averages the heads once.

M. Zinkevich, M. Weimer, L. Li, A. Smola: Parallelized Stochastic Gradient Descent. NeurIPS 2010 (algorithm 1: train apart,
average once), weighted by samples. It is `fedavg-head` with a single round of long training.
"""

from __future__ import annotations

import asyncio

from kuberml.core.ranges import Count, Positive
from kuberml.exchange.node import Node
from kuberml.exchange.public import head_learner
from kuberml.paradigms import fedavg
from kuberml.paradigms.options import Training

PUBLIC = ("extractor",)
"""Public things that it uses; a world has them published."""


class Config(Training, frozen=True, kw_only=True):
    """Options."""

    deadline_s: Positive = 3600.0
    epochs: Count = 30


async def server(node: Node, cfg: Config) -> None:
    """One round."""
    await fedavg.rounds(node, _once(cfg), await head_learner(node))


async def client(node: Node, cfg: Config) -> None:
    """Train to the end when asked."""
    await fedavg.follow(node, _once(cfg), asyncio.ensure_future(head_learner(node)))


def _once(cfg: Config) -> fedavg.Config:
    shared = {name: getattr(cfg, name) for name in Training.__struct_fields__}
    return fedavg.Config(rounds=1, deadline_s=cfg.deadline_s, **shared)
