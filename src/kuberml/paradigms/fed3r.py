"""Fed3R: statistics through a server. Clients send Gram and class sums once; the server adds them, solves, sends the head back.

E. Fani, R. Camoriano, B. Caputo, M. Ciccone: Accelerating Heterogeneous Federated Learning with Closed-form Classifiers.
ICML 2024 (arXiv 2406.01116): W = (sum of G_k + lambda I)^-1 (sum of B_k). The server takes what it is sent: there is no
trial here. Compare `kuber`, where the receiver decides.
"""

from __future__ import annotations

import asyncio

import msgspec

from kuberml.core.errors import ConfigError
from kuberml.core.ranges import Positive, Whole
from kuberml.exchange.heads import packed, unpacked
from kuberml.exchange.node import Node
from kuberml.exchange.public import public
from kuberml.knowledge.grid import StepLog2
from kuberml.knowledge.kinds.statistics import Statistics, merge
from kuberml.knowledge.want import Offer
from kuberml.learning.jobs import describe_own, solve_head
from kuberml.learning.predictor import HeadOn

PUBLIC = ("extractor",)
"""Public things that it uses; a world has them published."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options; `step_log2` and `ridge` are those of `kuber`."""

    deadline_s: Positive = 600.0
    min_class_count: Whole = 5
    step_log2: StepLog2 = 8
    ridge: Positive | None = None


async def server(node: Node, cfg: Config) -> None:
    """Collect packets, add, solve, hand out the head."""
    total: Statistics | None = None
    async for offer in node.ask(node.peers("client"), "describe", None, timeout_s=cfg.deadline_s):
        packet = await node.take(offer, Statistics)
        try:
            total = packet if total is None else total if packet is None else merge(total, packet)
        except ConfigError as error:  # of other features: it does not add up
            node.record("refused", card=offer.signed.digest, author=offer.signed.card.author, why=str(error))
    if total is None:
        return
    head = await node.compute(solve_head, total, cfg.ridge)
    model = await node.publish(packed(head), slot="head", version=0, listed=False)
    async for _ in node.ask(node.peers("client"), "adopt", model, timeout_s=cfg.deadline_s):
        pass


async def client(node: Node, cfg: Config) -> None:
    """Describe private data when asked, serve the head that comes back."""
    extractor = asyncio.ensure_future(public(node, "extractor"))

    async def describe(_: str, __: Offer | None) -> Offer | None:
        described = await node.compute(describe_own, await extractor, node.data.train, cfg.min_class_count, cfg.step_log2)
        packet = described[0]
        return None if not packet.labels else await node.publish(packet, slot="shard", version=0, listed=False)

    async def adopt(_: str, model: Offer | None) -> None:
        content = await node.fetch(model) if model else None
        head = unpacked(content)
        node.deploy(HeadOn(await extractor, head, node.place.shape), learned=[model.signed] if model else [])

    node.serve(describe=describe, adopt=adopt)
    await node.until_done()
