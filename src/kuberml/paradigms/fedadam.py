"""FedAdam: FedAvg whose server takes the mean change of a round for a gradient, and goes down it by Adam.

S. J. Reddi, Z. Charles, M. Zaheer, Z. Garrett, K. Rush, J. Konecny, S. Kumar, H. B. McMahan: Adaptive Federated Optimization.
ICLR 2021 (arXiv 2003.00295), algorithm 2: d = mean of w_k - w, m <- b1 m + (1 - b1) d, v <- b2 v + (1 - b2) d^2,
w <- w + lr m / (sqrt(v) + tau), with v = tau^2 and m = 0 at first and no correction of the start. The mean is weighted by
samples, as in the paper's experiments.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from kuberml.exchange.memory import Memory
from kuberml.exchange.node import Node
from kuberml.exchange.states import Vectors
from kuberml.learning.types import Array
from kuberml.paradigms import fedavg
from kuberml.paradigms.fedavg import client

__all__ = ["Adam", "Config", "client", "server"]

COMMON_MODEL = True
"""States are averaged or sent back: everybody has the same architecture."""


class Config(fedavg.Config, frozen=True, kw_only=True):
    """Options.

    Attributes:
        server_lr: the server's step; about what one weight moves in a round.
        beta1, beta2: how much of the means of the change and of its square stays from round to round.
        tau: how adaptive it is: small against a weight's usual change makes all weights move alike.
    """

    server_lr: Annotated[float, Meta(gt=0)] = 0.03
    beta1: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Meta(ge=0, lt=1)] = 0.99
    tau: Annotated[float, Meta(gt=0)] = 1e-3


class Adam(fedavg.Averaging):
    """The server's step. Its two moments are remembered with the weights."""

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg

    def start(self, weights_P: Array) -> dict[str, Any]:
        """No momentum, and the square of tau."""
        return {"m": np.zeros_like(weights_P), "v": np.full_like(weights_P, self.cfg.tau**2)}

    async def step(self, memory: Memory, means: Vectors, answers: int, clients: int) -> dict[str, Any]:
        """Algorithm 2 in float64, remembered in float32."""
        cfg, weights_P = self.cfg, memory.weights.astype(np.float64)
        change_P = means["state"] - weights_P
        m_P = cfg.beta1 * memory.m.astype(np.float64) + (1 - cfg.beta1) * change_P
        v_P = self.second(memory.v.astype(np.float64), change_P**2)
        weights_P += cfg.server_lr * m_P / (np.sqrt(v_P) + cfg.tau)
        return {name: vector.astype(np.float32) for name, vector in (("weights", weights_P), ("m", m_P), ("v", v_P))}

    def second(self, v_P: Array, square_P: Array) -> Array:
        """The second moment after a change with these squares: a running mean."""
        return self.cfg.beta2 * v_P + (1 - self.cfg.beta2) * square_P


async def server(node: Node, cfg: Config) -> None:
    """The rounds of FedAvg, with Adam on top."""
    await fedavg.rounds(node, cfg, node.learner, Adam(cfg))
