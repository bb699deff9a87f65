"""Models that are pulled: what a node publishes for its neighbours to read at any time, and how it reads theirs at once.

With the model (sparse where it has a mask) travel the node's average weights, by neighbour, and its share in what the whole
system minimises: from these each node finds its own share (`learning.mixing.next_ratio`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kuberml.core.errors import RemoteError
from kuberml.core.ids import LabelId, NodeId
from kuberml.exchange.node import Node
from kuberml.knowledge.card import SignedCard
from kuberml.knowledge.kinds.weights import Weights, Wire
from kuberml.knowledge.want import Offer
from kuberml.learning.sparsity import Mask, folded, unfolded
from kuberml.learning.types import Array

MAX_RATIO = 1e6
_TO = "to/"


@dataclass(frozen=True, slots=True)
class Pulled:
    """A neighbour's newest model as far as this node has it; P weights.

    Attributes:
        node: whose.
        version: its clock, see `paradigms.aedfl`.
        samples: that it learned from.
        degree: its neighbours.
        ratio: its share in what the system minimises, over its share of the samples.
        weight: what it gives this node on average; None: it has not averaged yet.
        card: of the package.
    """

    node: NodeId
    state_P: Array
    mask_P: Mask | None
    version: int
    samples: int
    degree: int
    ratio: float
    weight: float | None
    card: SignedCard


def packed(
    state_P: Array,
    mask_P: Mask | None,
    ratio: float,
    average: dict[str, float],
    counts: dict[LabelId, int],
    wire: Wire = "fp32",
) -> Weights:
    """A package to pull. `average`: the mean weight of each neighbour; `counts`: samples of each label."""
    numbers: dict[str, npt.NDArray[Any]] = {"ratio": np.array([ratio])}
    numbers |= {f"{_TO}{node}": np.array([weight]) for node, weight in average.items()}
    return Weights({**folded(state_P, mask_P), **numbers}, counts, wire=wire)


async def pull(
    node: Node, cache: dict[str, Pulled], length: int, *, some: int, turn: int, patience_s: float
) -> tuple[list[Pulled], list[SignedCard]]:
    """Read what neighbours have published last; nobody is waited for beyond the patience, what is here of them counts then.

    Args:
        node: who reads.
        cache: what it has of each neighbour; brought up to date.
        length: P, of a model.
        some: how many neighbours, drawn anew for each `turn`; 0: all.
        turn: number of this pull.
        patience_s: with each neighbour, for its answer and again for its model.

    Returns:
        What there is of the chosen neighbours, in order, and the cards of what is new.

    Raises:
        OverBudget: the node may receive no more.
    """
    chosen = list(node.neighbours)
    if 0 < some < len(chosen):
        chosen = sorted(node.rng("pull", turn).choice(chosen, some, replace=False).tolist())
    offers = await node.latest(chosen, slot="model", timeout_s=patience_s)
    new = [offer for offer in offers if (had := cache.get(offer.holders[0])) is None or had.card != offer.signed]
    came = [one for one in await asyncio.gather(*(_take(node, offer, length, patience_s) for offer in new)) if one is not None]
    cache.update({one.node: one for one in came})
    return [cache[name] for name in chosen if name in cache], [one.card for one in came]


async def _take(node: Node, offer: Offer, length: int, patience_s: float) -> Pulled | None:
    try:
        async with asyncio.timeout(patience_s):
            content = await node.take(offer, Weights)
        return None if content is None else _read(node.id, offer, content, length)
    except TimeoutError:
        node.record("undelivered", card=offer.signed.digest, why=f"not here within {patience_s} s")
    except RemoteError as error:
        node.record("undelivered", card=offer.signed.digest, why=str(error))
    return None


def _read(reader: NodeId, offer: Offer, content: Weights, length: int) -> Pulled:
    state_P, mask_P = unfolded(content.tensors, length)
    weights = {name.removeprefix(_TO): _number(part) for name, part in content.tensors.items() if name.startswith(_TO)}
    ratio, samples = _number(content.tensors.get("ratio")), sum(content.labels.values())
    if not 0 < ratio <= MAX_RATIO or samples < 1 or any(not 0 <= weight <= 1 for weight in weights.values()):
        raise RemoteError(f"the numbers beside a model are impossible: ratio {ratio}, {samples} samples, weights {weights}")
    to_me = weights.get(reader, 0.0) if any(weights.values()) else None
    card = offer.signed.card
    return Pulled(offer.holders[0], state_P, mask_P, card.version, samples, len(weights), ratio, to_me, offer.signed)


def _number(part: npt.NDArray[Any] | None) -> float:
    if part is None or part.shape != (1,) or part.dtype != np.float64:
        raise RemoteError("a number beside a model is missing, or is no float64 [1]")
    return float(part[0])
