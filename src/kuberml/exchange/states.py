"""States of models that travel as `Weights`: what averaging paradigms send each other, checked before it is used."""

from __future__ import annotations

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.exchange.node import Node, OverBudget
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.want import Offer
from kuberml.learning.types import Array


def packed(state_P: Array, labels: dict[str, int] | None = None) -> Weights:
    """A flat state as a package; `labels`: samples of each label behind it."""
    return Weights({"state": state_P}, labels or {})


async def fetch_state(node: Node, offer: Offer | None) -> Array:
    """The flat state, float32 [P], in a package.

    Raises:
        RemoteError: there is none in it; and as `Node.fetch`.
    """
    if offer is None:
        raise RemoteError("a model is needed, and none was sent")
    content = await node.fetch(offer)
    state = content.tensors.get("state") if isinstance(content, Weights) else None
    if state is None or state.ndim != 1 or state.dtype.kind != "f":
        raise RemoteError(f"no state of a model is in a package of kind {offer.signed.card.kind!r}")
    return state


async def take_state(node: Node, offer: Offer, like_P: Array) -> Array | None:
    """The same, of a peer among many: None, and recorded, where it does not arrive or is not of the shape of `like_P`.

    Raises:
        OverBudget: the node may receive no more.
    """
    try:
        state = await fetch_state(node, offer)
        if state.shape != like_P.shape:
            raise RemoteError(f"a state of shape {state.shape}, not {like_P.shape}")
    except OverBudget:
        raise
    except (RemoteError, Unreachable) as error:
        node.record("undelivered", card=offer.signed.digest, why=str(error))
        return None
    return state
