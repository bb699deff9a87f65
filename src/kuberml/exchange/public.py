"""Public things that a federation agrees on: the frozen extractor, the probe. They are knowledge, and delivered like any."""

from __future__ import annotations

from typing import Any

from kuberml.core.errors import Unreachable
from kuberml.exchange.node import Node
from kuberml.knowledge.card import SignedCard
from kuberml.knowledge.want import Want
from kuberml.learning.extractors import built
from kuberml.learning.head_learner import HeadLearner

RETRY_S = 1.0
TRIES = 60
LOOKED_AT = 8
"""Offers of one public thing that are looked at: strangers may offer others under the same task."""


async def public(node: Node, kind: str) -> Any:
    """The public extractor or probe of this node's task: found at the hub, delivered, checked; waited for at the start.

    Only from `Place.publisher`, where the federation names one: else a stranger's could take it over.

    Raises:
        Unreachable: nobody offers one that can be delivered.
    """
    return (await public_package(node, kind))[1]


async def public_package(node: Node, kind: str) -> tuple[SignedCard, Any]:
    """As `public`, with its card."""
    for _ in range(TRIES):
        publisher = node.place.publisher
        offers = await node.find(Want(task=node.task, kinds=(kind,), limit=LOOKED_AT))
        for offer in (one for one in offers if publisher in ("", one.signed.card.author)):
            content = await node.take(offer, object)
            if content is not None:
                return offer.signed, content
        await node.sleep(RETRY_S)
    raise Unreachable(f"nobody has given a public {kind} for {node.task!r} in {TRIES} tries")


async def head_learner(node: Node) -> HeadLearner:
    """A softmax head on the public extractor, for the labels of this node's task."""
    extractor = await public(node, "extractor")
    return HeadLearner(extractor, node.learner.labels, built(extractor).dimensions, node.place.shape)
