"""Sequential fine-tuning: federated averaging on the newest data alone. What a server that goes on learning forgets by.

Whenever new data have arrived somewhere, the server asks for some more rounds of FedAvg (H. B. McMahan et al., AISTATS 2017);
a client trains on what came last and keeps nothing of what was before. The lower bound of continual learning: M. McCloskey,
N. J. Cohen: Catastrophic Interference in Connectionist Networks, 1989; as a baseline "FedAvg without replay" in J. Dong et al.:
Federated Class-Incremental Learning, CVPR 2022 (arXiv 2203.11473). Without a stream there is one stage, and this is FedAvg.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from typing import ClassVar

import numpy as np

from kuberml.core.ranges import Whole
from kuberml.exchange.node import Node
from kuberml.exchange.place import LocalData, Stage
from kuberml.exchange.public import head_learner
from kuberml.exchange.states import Vectors, packed
from kuberml.exchange.tidings import Tidings, tell
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.want import Offer
from kuberml.learning.jobs import fit, init_state
from kuberml.learning.learner import Learner
from kuberml.learning.predictor import Network
from kuberml.paradigms import fedavg

COMMON_MODEL = True
"""States are averaged or sent back: everybody has the same architecture."""
PUBLIC = ("extractor",)
"""Public things that it uses; a world has them published. Fetched with `head` alone."""

Choose = Callable[[tuple[Stage, ...]], LocalData]
"""What a client trains on: of the stages that have come, at least one."""


class Config(fedavg.Config, frozen=True, kw_only=True):
    """Options.

    Attributes:
        rounds: after each arrival of new data.
        head: learn a softmax head on the public extractor instead of the common network.
    """

    offloads: ClassVar[bool] = False

    rounds: Whole = 5
    head: bool = False


async def server(node: Node, cfg: Config) -> None:
    """Some rounds after each arrival; serve what comes out of each."""
    await keep_learning(node, cfg)


async def client(node: Node, cfg: Config) -> None:
    """Fit what came last."""
    await learn_from(node, cfg, lambda stages: stages[-1].data)


async def keep_learning(node: Node, cfg: Config, *, arrivals: int | None = None) -> None:
    """The server: `cfg.rounds` of FedAvg after every arrival (None: of all), until no client expects more data."""
    tidings, learner = Tidings(node), await _learner(node, cfg)
    node.memory.setdefault(round=0, weights=await node.compute(init_state, learner, node.seed("init")))
    number = 0
    with closing(fedavg.gathering(node, cfg)) as gathers:
        async for _ in tidings.each():
            left = cfg.rounds
            while left:
                if taken := await fedavg.one_round(node, gathers):
                    node.deploy(Network(learner, node.memory.weights), learned=taken)
                left = cfg.rounds if tidings.take() and arrivals is None else left - 1
            number += 1
            if number == arrivals:
                break
    await fedavg.hand_out(node, cfg, node.memory.round)


async def learn_from(node: Node, cfg: Config, choose: Choose) -> None:
    """The client: tell of what arrives, and fit what is chosen of it when asked."""

    async def answer(own: Learner, r: int, start: Vectors) -> Offer:
        stages = node.stages_so_far
        data = choose(stages) if stages else node.data  # before the first: no samples, which weigh nothing
        state = await node.compute(fit, own, start["state"], data.train, cfg.plan, node.seed("fit", r))
        return await fedavg.hand_in(node, r, packed(state, data.counts), cfg, start)

    async def about(number: int, stage: Stage) -> Weights:
        return Weights({"stage": np.array([number], np.int64)}, stage.data.counts)

    following = fedavg.follow(node, cfg, asyncio.ensure_future(_learner(node, cfg)), answer)
    await asyncio.gather(following, tell(node, about))


async def _learner(node: Node, cfg: Config) -> Learner:
    return await head_learner(node) if cfg.head else node.learner
