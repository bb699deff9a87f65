"""FedPFT: once, every client sends Gaussian mixtures of its features; the server trains a head on features drawn from them.

M. Beitollahi, A. Bie, S. Hemati, L. M. Brunswic, X. Li, X. Chen, G. Zhang: Parametric Feature Transfer: One-shot Federated
Learning with Foundation Models. arXiv 2402.01862 (2024), algorithm 1 (centralised): a mixture for each label on the features of
a frozen public extractor; as many features are drawn as there were samples; cross entropy. Full covariances, and the paper's
differentially private and decentralised variants, are not here. Numbers travel in 16 bits, as the paper counts them.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from msgspec import Meta

from kuberml.core.errors import RemoteError
from kuberml.core.ranges import Count, Whole
from kuberml.exchange.node import Node
from kuberml.exchange.public import head_learner
from kuberml.exchange.states import fetch_state
from kuberml.exchange.states import packed as packed_state
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.want import Offer
from kuberml.learning.mixtures import describe, head_of, packed, unpacked
from kuberml.learning.predictor import Network
from kuberml.paradigms.options import Handing

PUBLIC = ("extractor",)
"""Public things that it uses; a world has them published."""


class Config(Handing, frozen=True, kw_only=True):
    """Options.

    Attributes:
        components: of each label's mixture, K.
        covariance: "spherical" (one number a component) or "diagonal" (d).
        min_class_count: labels with fewer samples are withheld.
        half: send 16 bits a number.
    """

    components: Annotated[int, Meta(ge=1, le=64)] = 1
    covariance: Literal["spherical", "diagonal"] = "diagonal"
    min_class_count: Whole = 5
    half: bool = True
    epochs: Count = 10


async def server(node: Node, cfg: Config) -> None:
    """Collect mixtures, draw, train a head, hand it out."""
    learner, packets = await head_learner(node), []
    async for offer in node.ask(node.peers("client"), "describe", None, timeout_s=cfg.deadline_s):
        came = await node.take(offer, Weights)
        try:
            packets += [unpacked(came, learner)] if came is not None else []
        except RemoteError as error:
            node.record("refused", card=offer.signed.digest, author=offer.signed.card.author, why=str(error))
    if not packets:
        return
    state = await node.compute(head_of, learner, packets, cfg.plan, node.seed("head"))
    model = await node.publish(packed_state(state), slot="head", version=0, listed=False)
    async for _ in node.ask(node.peers("client"), "adopt", model, timeout_s=cfg.deadline_s):
        pass


async def client(node: Node, cfg: Config) -> None:
    """Describe one's data when asked, serve the head that comes back."""
    learner = asyncio.ensure_future(head_learner(node))

    async def answer(_: str, __: Offer | None) -> Offer | None:
        extractor = (await learner).extractor
        inputs = (extractor, node.data.train, cfg.components, cfg.covariance, cfg.min_class_count, node.seed("mixture"))
        found = await node.compute(describe, *inputs)
        if not found.counts:
            return None
        return await node.publish(packed(found, extractor, half=cfg.half), slot="mixtures", version=0, listed=False)

    async def adopt(_: str, model: Offer | None) -> None:
        state = await fetch_state(node, model)
        node.deploy(Network(await learner, state), learned=[model.signed] if model else [])

    node.serve(describe=answer, adopt=adopt)
    await node.until_done()
