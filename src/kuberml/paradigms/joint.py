"""Joint training, the oracle: whatever has arrived anywhere goes to the server, which trains anew on all of it at each stage.

What continual learning is measured against (the "gap to joint"; the upper bound of D. Lopez-Paz, M. Ranzato: Gradient Episodic
Memory for Continual Learning, NeurIPS 2017): everybody's data leave home, nothing is forgotten, and all of it is trained on
again each time. As `centralised`, stage by stage; with `head` the network is a softmax head on the public extractor.
"""

from __future__ import annotations

import asyncio

from kuberml.core.ids import Digest
from kuberml.core.ranges import Count, NonNegative
from kuberml.exchange.node import Node
from kuberml.exchange.place import Stage
from kuberml.exchange.public import head_learner
from kuberml.exchange.tidings import Tidings, tell
from kuberml.knowledge.card import Knowledge, decode_card
from kuberml.knowledge.kinds.probe import Probe
from kuberml.knowledge.pack import open_value
from kuberml.learning.jobs import init_state
from kuberml.learning.learner import Learner
from kuberml.learning.predictor import Network
from kuberml.paradigms import fedavg
from kuberml.paradigms.centralised import fit_pooled, reveal
from kuberml.paradigms.options import Handing

COMMON_MODEL = True
"""States are averaged or sent back: everybody has the same architecture."""
PUBLIC = ("extractor",)
"""Public things that it uses; a world has them published. Fetched with `head` alone."""


class Config(Handing, frozen=True, kw_only=True):
    """Options.

    Attributes:
        epochs: of every training, from new weights.
        head: learn a softmax head on the public extractor instead of the common network.
        settle_s: how long the server waits for more after something has arrived: one training for all.
    """

    epochs: Count = 20
    head: bool = False
    settle_s: NonNegative = 5.0


async def server(node: Node, cfg: Config) -> None:
    """Collect; train on everything; serve; let everybody adopt it in the end."""
    tidings, learner = Tidings(node), await _learner(node, cfg)
    node.memory.setdefault(cards=[], trainings=0)
    pool = [_kept(node, card) for card in node.memory.cards]  # after a restart
    async for offers in tidings.each(cfg.settle_s):
        came = [(offer.signed, data) for offer in offers if (data := await node.take(offer, Probe)) is not None]
        if not came:
            continue
        pool += [data for _, data in came]
        start = await node.compute(init_state, learner, node.seed("init"))
        seed, number = node.seed("fit", node.memory.trainings), node.memory.trainings + 1
        weights_P = await node.compute(fit_pooled, learner, start, pool, cfg.plan, seed)
        cards = [*node.memory.cards, *(signed.digest for signed, _ in came)]
        node.memory.update(weights=weights_P, cards=cards, trainings=number)
        node.deploy(Network(learner, weights_P), learned=[signed for signed, _ in came])
    if node.memory.trainings:
        await fedavg.hand_out(node, cfg, node.memory.trainings)


async def client(node: Node, cfg: Config) -> None:
    """Give every stage away as it arrives, serve what comes back."""

    async def about(_: int, stage: Stage) -> Probe:
        revealed: Probe = await node.compute(reveal, stage.data.train)
        return revealed

    following = fedavg.follow(node, cfg, asyncio.ensure_future(_learner(node, cfg)))
    await asyncio.gather(following, tell(node, about))


def _kept(node: Node, card: Digest) -> Probe:
    signed = decode_card(node.place.store.card(card))
    data: Probe = open_value(Knowledge(signed, tuple(node.place.store.get(blob.digest) for blob in signed.card.blobs)))
    return data


async def _learner(node: Node, cfg: Config) -> Learner:
    return await head_learner(node) if cfg.head else node.learner
