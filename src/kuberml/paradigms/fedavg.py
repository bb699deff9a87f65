"""FedAvg: a server asks a cohort to train its model on their data and averages what comes back, round by round.

H. B. McMahan, E. Moore, D. Ramage, S. Hampson, B. Aguera y Arcas: Communication-Efficient Learning of Deep Networks from
Decentralized Data. AISTATS 2017, algorithm 1: w <- sum over the cohort of (n_k / n) w_k.
"""

from __future__ import annotations

import asyncio

from kuberml.exchange.node import Node
from kuberml.exchange.states import fetch_state, packed, take_state
from kuberml.knowledge.want import Offer
from kuberml.learning.averaging import Mean
from kuberml.learning.jobs import fit, init_state
from kuberml.learning.learner import Learner
from kuberml.learning.predictor import Network
from kuberml.paradigms.options import Training

COMMON_MODEL = True
"""States are averaged or sent back: everybody has the same architecture."""


class Config(Training, frozen=True, kw_only=True):
    """Options. A round's cohort is a share of the clients that are present, at least one."""

    rounds: int = 20
    cohort: float = 1.0
    deadline_s: float = 600.0


async def server(node: Node, cfg: Config) -> None:
    """Publish the model, ask a cohort to fit it, average in node order; last of all, let everybody adopt it."""
    await rounds(node, cfg, node.learner)


async def client(node: Node, cfg: Config) -> None:
    """Fit what is asked, serve what is adopted."""
    own: asyncio.Future[Learner] = asyncio.get_running_loop().create_future()
    own.set_result(node.learner)
    await follow(node, cfg, own)


async def rounds(node: Node, cfg: Config, learner: Learner) -> None:
    """The server's rounds for any learner whose states can be averaged."""
    node.memory.setdefault(round=0, weights=await node.compute(init_state, learner, node.seed("init")))
    for r in range(node.memory.round, cfg.rounds):
        clients = node.peers("client")
        size = max(1, round(cfg.cohort * len(clients)))
        cohort = sorted(node.rng("cohort", r).choice(clients, size, replace=False).tolist()) if clients else []
        base = await node.publish(packed(node.memory.weights), slot="global", version=r, keep=2, listed=False)
        mean = Mean()
        async for offer in node.ask(cohort, "fit", base, timeout_s=cfg.deadline_s):
            state = await take_state(node, offer, node.memory.weights)
            samples = sum(offer.signed.card.labels.values())
            if state is not None and samples:
                mean.add(state, weight=samples)
        node.memory.update(round=r + 1, weights=mean.result(node.memory.weights))
    final = await node.publish(packed(node.memory.weights), slot="global", version=cfg.rounds, keep=2, listed=False)
    async for _ in node.ask(node.peers("client"), "adopt", final, timeout_s=cfg.deadline_s):
        pass


async def follow(node: Node, cfg: Config, learner: asyncio.Future[Learner]) -> None:
    """The client's side of `rounds`. It serves at once, also while its learner is still being delivered."""

    async def adopt(_: str, base: Offer | None) -> None:
        state = await fetch_state(node, base)
        node.deploy(Network(await learner, state), learned=[base.signed] if base else [])

    async def train(asker: str, base: Offer | None) -> Offer:
        start = await fetch_state(node, base)
        assert base is not None, "a state came out of it"
        r = base.signed.card.version
        node.deploy(Network(await learner, start), learned=[base.signed])
        state = await node.compute(fit, await learner, start, node.data.train, cfg.plan, node.seed("fit", r))
        return await node.publish(packed(state, node.data.counts), slot="update", version=r, listed=False)

    node.serve(fit=train, adopt=adopt)
    await node.until_done()
