"""FedBuff: asynchronous like FedAsync, but the server moves only when K changes have come, by their mean.

J. Nguyen, K. Malik, H. Zhan, A. Yousefpour, M. Rabbat, M. Malek, D. Huba: Federated Learning with Buffered Asynchronous
Aggregation. AISTATS 2022 (arXiv 2106.06639), algorithm 1: a client hands in its change y - x from the weights x that it was
sent; the server adds it to its buffer, weighted by 1 / sqrt(1 + staleness), and after K of them takes w + server_lr buffer / K.
Staleness counts the server's steps since x. The paper's privacy and secure aggregation are not here. Clients count alike.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from kuberml.exchange.memory import Memory
from kuberml.exchange.node import Node
from kuberml.exchange.states import Vectors
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.want import Offer
from kuberml.learning.jobs import fit
from kuberml.learning.learner import Learner
from kuberml.learning.types import Array
from kuberml.paradigms import fedasync, fedavg
from kuberml.paradigms.options import Handed

COMMON_MODEL = True
"""States are averaged or sent back: everybody has the same architecture."""


class Config(Handed, frozen=True, kw_only=True):
    """Options. `buffer`: the paper's K, and its best one; `server_lr`: how much of the mean change the server takes."""

    buffer: Annotated[int, Meta(ge=1)] = 10
    server_lr: Annotated[float, Meta(gt=0)] = 1.0


class Buffered:
    """What the server makes of one change: see `fedasync.Rule`. The buffer is remembered with the weights."""

    takes = "change"

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg

    def start(self, weights_P: Array) -> dict[str, Any]:
        """An empty buffer."""
        return {"buffer": np.zeros_like(weights_P), "buffered": 0}

    def step(self, memory: Memory, update_P: Array, staleness: int) -> dict[str, Any]:
        """Put it into the buffer, and empty that when it is full."""
        buffer_P = memory.buffer + np.float32((1 + staleness) ** -0.5) * update_P
        if memory.buffered + 1 < self.cfg.buffer:
            return {"buffer": buffer_P, "buffered": memory.buffered + 1}
        weights_P = memory.weights + np.float32(self.cfg.server_lr / self.cfg.buffer) * buffer_P
        return {"weights": weights_P, "version": memory.version + 1, **self.start(weights_P)}


async def server(node: Node, cfg: Config) -> None:
    """Buffer whatever comes."""
    await fedasync.take_in(node, cfg, Buffered(cfg))


async def client(node: Node, cfg: Config) -> None:
    """Fit what is asked, hand in the difference."""

    async def answer(own: Learner, _: int, start: Vectors) -> Offer:
        k = fedasync.next_fit(node.memory)
        state = await node.compute(fit, own, start["state"], node.data.train, cfg.plan, node.seed("fit", k))
        update = Weights({"change": state - start["state"]}, node.data.counts)
        return await fedavg.hand_in(node, k, update, cfg, start)

    await fedavg.follow(node, cfg, fedavg.at_once(node.learner), answer)
