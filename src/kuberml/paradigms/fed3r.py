"""Fed3R: statistics through a server. Clients send Gram and class sums once; the server adds them, solves, sends the head back.

E. Fani, R. Camoriano, B. Caputo, M. Ciccone: Accelerating Heterogeneous Federated Learning with Closed-form Classifiers.
ICML 2024 (arXiv 2406.01116): W = (sum of G_k + lambda I)^-1 (sum of B_k). The server takes what it is sent: there is no
trial here. Compare `kuber`, where the receiver decides.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import numpy as np

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import Digest
from kuberml.exchange.node import Node
from kuberml.exchange.public import public
from kuberml.knowledge.kinds.extractor import basis_of
from kuberml.knowledge.kinds.statistics import Head, Statistics, merge
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.want import Offer
from kuberml.learning.jobs import describe_data, solve_head
from kuberml.learning.predictor import HeadOn

PUBLIC = ("extractor",)
"""Public things that it uses; a world has them published."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options."""

    deadline_s: float = 600.0
    min_class_count: int = 5


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
    head = await node.compute(solve_head, total)
    model = await node.publish(_sent(head), slot="head", version=0, listed=False)
    async for _ in node.ask(node.peers("client"), "adopt", model, timeout_s=cfg.deadline_s):
        pass


async def client(node: Node, cfg: Config) -> None:
    """Describe private data when asked, serve the head that comes back."""
    extractor = asyncio.ensure_future(public(node, "extractor"))

    async def describe(_: str, __: Offer | None) -> Offer | None:
        packet, _withheld = await node.compute(describe_data, await extractor, node.data.train, cfg.min_class_count)
        return None if not packet.labels else await node.publish(packet, slot="shard", version=0, listed=False)

    async def adopt(_: str, model: Offer | None) -> None:
        content = await node.fetch(model) if model else None
        head = _received(content, basis_of(await extractor))
        node.deploy(HeadOn(await extractor, head, node.place.shape), learned=[model.signed] if model else [])

    node.serve(describe=describe, adopt=adopt)
    await node.until_done()


def _sent(head: Head) -> Weights:
    grid = np.array([head.step_log2, head.clip], np.int64)
    return Weights({"head": head.weights_dC, "grid": grid, "ridge": np.array([head.ridge])}, outputs=head.labels)


def _received(weights: Any, basis: Digest) -> Head:
    if not isinstance(weights, Weights) or weights.tensors.keys() != {"head", "grid", "ridge"}:
        raise RemoteError("a head is needed, and something else was sent")
    step_log2, clip = (int(number) for number in weights.tensors["grid"])
    return Head(weights.tensors["head"], weights.outputs, float(weights.tensors["ridge"][0]), basis, step_log2, clip)
