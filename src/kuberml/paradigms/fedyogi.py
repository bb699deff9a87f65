"""FedYogi: as FedAdam, but its second moment grows and shrinks by the size of the change only, so it forgets slowly.

S. J. Reddi, Z. Charles, M. Zaheer, Z. Garrett, K. Rush, J. Konecny, S. Kumar, H. B. McMahan: Adaptive Federated Optimization.
ICLR 2021 (arXiv 2003.00295), algorithm 2: v <- v - (1 - b2) d^2 sign(v - d^2).
"""

from __future__ import annotations

import numpy as np

from kuberml.exchange.node import Node
from kuberml.learning.types import Array
from kuberml.paradigms import fedavg
from kuberml.paradigms.fedadam import Adam, Config
from kuberml.paradigms.fedavg import client

__all__ = ["Config", "Yogi", "client", "server"]

COMMON_MODEL = True
"""States are averaged or sent back: everybody has the same architecture."""


class Yogi(Adam):
    """The server's step."""

    def second(self, v_P: Array, square_P: Array) -> Array:
        """The second moment after a change with these squares: moved towards them, never by more than their share."""
        moved_P: Array = v_P - (1 - self.cfg.beta2) * square_P * np.sign(v_P - square_P)
        return moved_P


async def server(node: Node, cfg: Config) -> None:
    """The rounds of FedAvg, with Yogi on top."""
    await fedavg.rounds(node, cfg, node.learner, Yogi(cfg))
