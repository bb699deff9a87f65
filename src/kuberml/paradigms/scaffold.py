"""SCAFFOLD: FedAvg whose clients correct each step by how their own gradient differs from everybody's (control variates).

S. P. Karimireddy, S. Kale, M. Mohri, S. Reddi, S. Stich, A. T. Suresh: SCAFFOLD: Stochastic Controlled Averaging for Federated
Learning. ICML 2020 (arXiv 1910.06378), algorithm 1 with option II: a client steps by g(y) - c_k + c, then
c_k' = c_k - c + (x - y) / (K lr); the server takes x + server_lr mean(y - x) and c + |S| / N mean(c_k' - c_k). All clients
weigh alike, as in the paper, so that c stays the mean of the c_k. Controls travel beside weights: twice FedAvg's bytes.

With momentum, (x - y) / lr is a sum of gradients that count more than once each; it is divided by how often (K without).
An update that misses its round's deadline is lost, and with it what its client's control has moved by.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta

from kuberml.exchange.memory import Memory
from kuberml.exchange.node import Node
from kuberml.exchange.states import Vectors, packed
from kuberml.knowledge.want import Offer
from kuberml.learning.batching import step_count
from kuberml.learning.jobs import fit_steered
from kuberml.learning.learner import Learner
from kuberml.learning.steering import Steering, steerable
from kuberml.learning.types import Array, FitPlan
from kuberml.paradigms import fedavg

COMMON_MODEL = True
"""States are averaged or sent back: everybody has the same architecture."""


class Config(fedavg.Config, frozen=True, kw_only=True):
    """Options. `server_lr`: how much of the clients' mean change the server takes."""

    offloads: ClassVar[bool] = False

    server_lr: Annotated[float, Meta(gt=0)] = 1.0


class Controlled(fedavg.Averaging):
    """The server's step: weights and control move together, and are remembered together."""

    sends = MappingProxyType({"state": "weights", "control": "control"})

    def __init__(self, server_lr: float) -> None:
        self.server_lr = np.float32(server_lr)

    def start(self, weights_P: Array) -> dict[str, Any]:
        """No control, and nobody met."""
        return {"control": np.zeros_like(weights_P), "population": 0}

    def weigh(self, samples: int) -> float:
        """All alike."""
        return 1.0

    async def step(self, memory: Memory, means: Vectors, answers: int, clients: int) -> dict[str, Any]:
        """N is the most clients that were ever present: those who are away keep their controls."""
        population = max(memory.population, clients)
        weights_P = memory.weights + self.server_lr * (means["state"] - memory.weights)
        control_P = memory.control + np.float32(answers / population) * means["control"]
        return {"weights": weights_P, "control": control_P, "population": population}


async def server(node: Node, cfg: Config) -> None:
    """The rounds of FedAvg, with a control beside the weights."""
    await fedavg.rounds(node, cfg, node.learner, Controlled(cfg.server_lr))


async def client(node: Node, cfg: Config) -> None:
    """Fit what is asked, corrected; keep the new control, hand in by how much it moved."""

    async def answer(own: Learner, r: int, start: Vectors) -> Offer:
        before_P = before(node.memory, r, start["state"])
        steering = Steering(shift_P=start["control"] - before_P)
        plan, seed = cfg.plan, node.seed("fit", r)
        state = await node.compute(fit_steered, own, start["state"], node.data.train, plan, seed, steering)
        went = np.float32(plan.lr * pace(plan, step_count(plan, len(node.data.train))))
        moved_P = (start["state"] - state) / went - start["control"] if went else np.zeros_like(state)
        node.memory.update(control=before_P + moved_P, control_before=before_P, control_round=r)
        update = packed(state, node.data.counts, control=moved_P)
        return await fedavg.hand_in(node, r, update, cfg, start, alike=True)

    await fedavg.follow(node, cfg, fedavg.at_once(steerable(node.learner)), answer, ("state", "control"))


def before(memory: Memory, r: int, like_P: Array) -> Array:
    """A client's control before round r: a server that crashed asks for its round again, and is told the same again."""
    if memory.get("control_round", -1) == r:
        found: Array = memory.control_before
        return found
    found = memory.get("control", np.zeros_like(like_P))
    return found


def pace(plan: FitPlan, steps: int) -> float:
    """How many gradients' worth a fit goes: its steps, and with momentum what each gradient is counted in later ones."""
    counts = (1 - plan.momentum ** np.arange(1, steps + 1)) / (1 - plan.momentum)
    return float(counts.sum())
