"""Epidemic Learning: in every round each node trains and sends its model to s others, drawn anew, and averages what came to it.

M. de Vos, S. Farhadkhani, R. Guerraoui, A.-M. Kermarrec, R. Pires, R. Sharma: Epidemic Learning: Boosting Decentralized
Learning with Randomized Communication. NeurIPS 2023, algorithm 1 (EL-Local): x_i becomes the mean of itself and what came in.

Who sends to whom is drawn from the common seed, so a receiver knows for whom it waits, and reads their models instead.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from kuberml.core.ranges import NonNegative, Whole
from kuberml.core.rng import rng, seed_of
from kuberml.exchange.node import Node, OverBudget
from kuberml.exchange.states import packed, take_state
from kuberml.learning.averaging import Mean
from kuberml.learning.jobs import fit, init_state
from kuberml.learning.predictor import Network
from kuberml.paradigms.options import Training

COMMON_MODEL = True
"""States are averaged or sent back: everybody has the same architecture."""


class Config(Training, frozen=True, kw_only=True):
    """Options. `peers`: s; `patience_s`: how long to wait for a model of this round before the sender's last one is taken."""

    rounds: Whole = 20
    peers: Whole = 4
    patience_s: NonNegative = 600.0


async def peer(node: Node, cfg: Config) -> None:
    """Train, publish, read who sends to this node, average. Everybody starts from the same point."""
    start = seed_of(node.place.seed, "epidemic", "init")
    node.memory.setdefault(round=0, state=await node.compute(init_state, node.learner, start))
    try:
        await spread(node, cfg)
    except OverBudget as error:
        node.record("spent", why=str(error))


async def spread(node: Node, cfg: Config) -> None:
    """The rounds."""
    for r in range(node.memory.round, cfg.rounds):
        state = await node.compute(fit, node.learner, node.memory.state, node.data.train, cfg.plan, node.seed("fit", r))
        await node.publish(packed(state), slot="model", version=r, keep=2, listed=False)
        everybody = sorted({*node.peers("peer"), node.id})
        to_NS = receivers(node.place.seed, r, len(everybody), cfg.peers)
        senders = [everybody[i] for i in np.flatnonzero((to_NS == everybody.index(node.id)).any(axis=1))]
        came = await node.latest(senders, slot="model", timeout_s=cfg.patience_s, at_least=r)
        mean = Mean()
        for offer in came:
            theirs = await take_state(node, offer, state)
            if theirs is not None:
                mean.add(theirs, 1.0)
        mean.add(state, 1.0)
        node.memory.update(round=r + 1, state=mean.result(state))
        node.deploy(Network(node.learner, node.memory.state), learned=[offer.signed for offer in came])


@functools.lru_cache(maxsize=8)
def receivers(seed: int, round_: int, count: int, peers: int) -> npt.NDArray[np.int64]:
    """To whom each of `count` nodes sends in a round: [count, s], s others each, without one twice, every set as likely."""
    stream, size = rng(seed, "epidemic", round_), min(peers, count - 1)
    to_NS = np.stack([stream.choice(count - 1, size, replace=False) for _ in range(count)])
    return to_NS + (to_NS >= np.arange(count)[:, None])  # nobody sends to itself
