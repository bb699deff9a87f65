"""States of models that travel as `Weights`: what averaging paradigms send each other, checked before it is used."""

from __future__ import annotations

from collections.abc import Collection

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.exchange.node import Node, OverBudget
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.want import Offer
from kuberml.learning.types import Array

Vectors = dict[str, Array]
"""Flat vectors by the name of the tensor that carries them; "state" is a model's."""


def packed(state_P: Array, labels: dict[str, int] | None = None, **beside: Array) -> Weights:
    """A flat state as a package; `labels`: samples of each label behind it; `beside`: other vectors that travel with it."""
    return Weights({"state": state_P, **beside}, labels or {})


async def fetch_state(node: Node, offer: Offer | None) -> Array:
    """The flat state, float32 [P], in a package.

    Raises:
        RemoteError: there is none in it; and as `Node.fetch`.
    """
    return (await fetch_vectors(node, offer, ("state",)))["state"]


async def fetch_vectors(node: Node, offer: Offer | None, names: Collection[str]) -> Vectors:
    """The flat vectors of these names in a package.

    Raises:
        RemoteError: one is missing; and as `Node.fetch`.
    """
    if offer is None:
        raise RemoteError("a model is needed, and none was sent")
    content = await node.fetch(offer)
    tensors = content.tensors if isinstance(content, Weights) else {}
    for name in names:
        found = tensors.get(name)
        if found is None or found.ndim != 1 or found.dtype.kind != "f":
            raise RemoteError(f"no {name} of a model is in a package of kind {offer.signed.card.kind!r}")
    return {name: tensors[name] for name in names}


async def take_state(node: Node, offer: Offer, like_P: Array) -> Array | None:
    """The same, of a peer among many: None, and recorded, where it does not arrive or is not of the shape of `like_P`.

    Raises:
        OverBudget: the node may receive no more.
    """
    found = await take_vectors(node, offer, {"state": like_P})
    return None if found is None else found["state"]


async def take_vectors(node: Node, offer: Offer, like: Vectors) -> Vectors | None:
    """As `take_state`, of several vectors: those that `like` names, in its shapes."""
    try:
        found = await fetch_vectors(node, offer, like)
        for name, wanted in like.items():
            if found[name].shape != wanted.shape:
                raise RemoteError(f"a {name} of shape {found[name].shape}, not {wanted.shape}")
    except OverBudget:
        raise
    except (RemoteError, Unreachable) as error:
        node.record("undelivered", card=offer.signed.digest, why=str(error))
        return None
    return found
