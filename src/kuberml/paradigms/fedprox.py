"""FedProx: FedAvg in which a client that trains is pulled back to the model that it started from.

T. Li, A. K. Sahu, M. Zaheer, M. Sanjabi, A. Talwalkar, V. Smith: Federated Optimization in Heterogeneous Networks. MLSys 2020
(arXiv 1812.06127), algorithm 2: a client of round t goes down F_k(w) + mu / 2 |w - w_t|^2, and the server takes the mean.
Weighted by samples, as `fedavg` does, so that mu = 0 is FedAvg. Work that differs between clients (gamma) is not modelled.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from kuberml.exchange.node import Node
from kuberml.exchange.states import Vectors, packed
from kuberml.knowledge.want import Offer
from kuberml.learning.jobs import fit_steered
from kuberml.learning.learner import Learner
from kuberml.learning.steering import Steering, steerable
from kuberml.paradigms import fedavg

COMMON_MODEL = True
"""States are averaged or sent back: everybody has the same architecture."""


class Config(fedavg.Config, frozen=True, kw_only=True):
    """Options. `mu`: how strong the pull is; the paper's best are 0.001 to 1."""

    offloads: ClassVar[bool] = False

    mu: Annotated[float, Meta(ge=0)] = 0.01


async def server(node: Node, cfg: Config) -> None:
    """The rounds of FedAvg."""
    await fedavg.rounds(node, cfg, node.learner)


async def client(node: Node, cfg: Config) -> None:
    """Fit what is asked, pulled to where it began."""
    steering = Steering(proximal=cfg.mu)

    async def answer(own: Learner, r: int, start: Vectors) -> Offer:
        plan, seed = cfg.plan, node.seed("fit", r)
        state = await node.compute(fit_steered, own, start["state"], node.data.train, plan, seed, steering)
        return await fedavg.hand_in(node, r, packed(state, node.data.counts), cfg, start)

    await fedavg.follow(node, cfg, fedavg.at_once(steerable(node.learner)), answer)
