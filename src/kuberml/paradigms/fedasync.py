"""FedAsync: no rounds; every client trains all the time, and the server mixes in each model as it comes, old ones more weakly.

C. Xie, S. Koyejo, I. Gupta: Asynchronous Federated Optimization. OPT 2020 (arXiv 1903.03934), algorithm 1:
w <- (1 - a_t) w + a_t w_new with a_t = alpha s(staleness), where a client goes down F_k(w) + rho / 2 |w - w_base|^2 from the
base that it was sent. Staleness is the number of models that were mixed in since that base; s is 1, or (1 + staleness)^-a, or
1 up to b and then 1 / (a (staleness - b) + 1).

The server drives, as the paper's scheduler does: it asks a client that is idle to fit the newest weights. So a client is that
of `fedavg`, and who crashes is asked again when it is back. Clients count alike, however much data they have.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from msgspec import Meta

from kuberml.core.ids import NodeId
from kuberml.exchange.crowd import keep_busy
from kuberml.exchange.gathering import taker
from kuberml.exchange.memory import Memory
from kuberml.exchange.node import Node
from kuberml.exchange.policies.choosing import among_idle
from kuberml.exchange.states import Vectors, packed
from kuberml.knowledge.want import Offer
from kuberml.learning.jobs import fit_steered, init_state
from kuberml.learning.learner import Learner
from kuberml.learning.steering import Steering, steerable
from kuberml.learning.types import Array
from kuberml.paradigms import fedavg
from kuberml.paradigms.options import Handed

COMMON_MODEL = True
"""States are averaged or sent back: everybody has the same architecture."""


class Config(Handed, frozen=True, kw_only=True):
    """Options; names and defaults are the paper's. With "hinge" its a is 10."""

    alpha: Annotated[float, Meta(gt=0, le=1)] = 0.6
    staleness: Literal["polynomial", "hinge", "constant"] = "polynomial"
    a: Annotated[float, Meta(ge=0)] = 0.5
    b: Annotated[int, Meta(ge=0)] = 4
    rho: Annotated[float, Meta(ge=0)] = 0.005


class Rule(Protocol):
    """What a server makes of one update.

    Attributes:
        takes: the tensor of an update that it reads.
    """

    takes: str

    def start(self, weights_P: Array) -> dict[str, Any]:
        """What the server remembers from the beginning, besides its weights and how many updates it took."""
        ...

    def step(self, memory: Memory, update_P: Array, staleness: int) -> dict[str, Any]:
        """What to remember next; `version` goes up where the weights are new."""
        ...


class Mixing:
    """A model is mixed into the weights; see `Rule`."""

    takes = "state"

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg

    def start(self, weights_P: Array) -> dict[str, Any]:
        """Nothing more."""
        return {}

    def step(self, memory: Memory, update_P: Array, staleness: int) -> dict[str, Any]:
        """Move towards the update by alpha s."""
        share = np.float32(self.cfg.alpha * trust(self.cfg, staleness))
        return {"weights": (1 - share) * memory.weights + share * update_P, "version": memory.version + 1}


def trust(cfg: Config, staleness: int) -> float:
    """s(staleness), 0..1."""
    if cfg.staleness == "polynomial":
        return float((1 + staleness) ** -cfg.a)
    return 1.0 if cfg.staleness == "constant" or staleness <= cfg.b else 1 / (cfg.a * (staleness - cfg.b) + 1)


async def server(node: Node, cfg: Config) -> None:
    """Mix in whatever comes."""
    await take_in(node, cfg, Mixing(cfg))


async def client(node: Node, cfg: Config) -> None:
    """Fit what is asked, pulled to where it began."""
    learner, steering = steerable(node.learner), Steering(proximal=cfg.rho)

    async def answer(own: Learner, _: int, start: Vectors) -> Offer:
        k = next_fit(node.memory)
        plan, seed = cfg.plan, node.seed("fit", k)
        state = await node.compute(fit_steered, own, start["state"], node.data.train, plan, seed, steering)
        return await fedavg.hand_in(node, k, packed(state, node.data.counts), cfg, start)

    await fedavg.follow(node, cfg, fedavg.at_once(learner), answer)


def next_fit(memory: Memory) -> int:
    """The number of a client's next fit: it may get the same base twice, and must not do the same work twice."""
    k: int = memory.get("fits", 0)
    memory.update(fits=k + 1)
    return k


async def take_in(node: Node, cfg: Handed, rule: Rule) -> None:
    """The server: keep clients busy, take in what comes, as it comes; then let everybody adopt the weights.

    Each update is committed with what it changed. A restarted server asks everybody again; what was under way is lost.
    """
    weights_P = await node.compute(init_state, node.learner, node.seed("init"))
    node.memory.setdefault(version=0, taken=0, weights=weights_P, **rule.start(weights_P))
    taking, choose = taker(node, cfg.deadline_s, cfg.chain), among_idle(node, cfg.choice)

    async def newest() -> Offer:
        said, version = node.own("global"), node.memory.version
        if said is not None and said.signed.card.version == version:
            return said
        return await node.publish(packed(node.memory.weights), slot="global", version=version, keep=2, listed=False)

    async def update(client: NodeId) -> tuple[int, Array] | None:
        weights_P, base = node.memory.weights, await newest()  # those of the base, whatever is mixed in meanwhile
        async for offer in node.ask([client], "fit", base, timeout_s=cfg.deadline_s):
            came = await taking.take(offer, {rule.takes: weights_P}, weights_P)
            if came is not None:
                return base.signed.card.version, came[rule.takes]
        return None

    busy = keep_busy(node, update, role="client", share=cfg.cohort, rest_s=cfg.rest_s, choose=choose)
    async with aclosing(busy) as updates:
        while node.memory.taken < cfg.updates:
            client, (began, update_P) = await anext(updates)
            staleness = node.memory.version - began
            node.record("taken in", of=client, staleness=staleness)
            node.memory.update(taken=node.memory.taken + 1, **rule.step(node.memory, update_P, staleness))
    await fedavg.hand_out(node, cfg, node.memory.version)
