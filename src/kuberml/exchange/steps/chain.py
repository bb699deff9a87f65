"""The steps of a run as a chain, and the client's half of using it. The server's is `exchange.gathering`."""

from __future__ import annotations

import math

import numpy as np

from kuberml.exchange.node import Node
from kuberml.exchange.states import Vectors
from kuberml.exchange.steps.local import Clipping, Quantising, Sparsifying
from kuberml.exchange.steps.masks import Masking
from kuberml.exchange.steps.options import Name, Steps
from kuberml.exchange.steps.private import Privacy
from kuberml.exchange.steps.robust import Centring, Choosing, Median, Trimming
from kuberml.exchange.steps.step import Step
from kuberml.exchange.steps.update import Content, Update, changed, packed
from kuberml.knowledge.kinds.weights import Weights, base_of
from kuberml.learning.steps.privacy import Sampling


def chain(steps: Steps, *, deadline_s: float, sampling: Sampling = "all", share: float = 1.0) -> list[Step]:
    """The steps, in their order.

    Args:
        steps: which, and their options.
        deadline_s: how long a client has for each answer.
        sampling, share: how the cohort of a round is drawn; see `learning.steps.privacy`.

    Raises:
        MissingExtra: "dp" is among them, and there is no accountant.
    """
    return [_step(name, steps, deadline_s, sampling, share) for name in steps.names]


def _step(name: Name, steps: Steps, deadline_s: float, sampling: Sampling, share: float) -> Step:  # noqa: PLR0911 - one for each
    match name:
        case "clip":
            return Clipping(steps.clip)
        case "top-k":
            return Sparsifying(steps.top_k)
        case "quantise":
            return Quantising(steps.quantise)
        case "dp":
            return Privacy(steps, sampling, share)
        case "masks":
            return Masking(steps.masks, deadline_s, alike=steps.alike)
        case "krum":
            return Choosing(steps.krum)
        case "median":
            return Median()
        case "trimmed-mean":
            return Trimming(steps.trimmed_mean)
        case "centred-clip":
            return Centring(steps.centred_clip)


async def sent_through(
    node: Node, steps: Steps, number: int, update: Weights, start: Vectors, *, alike: bool, deadline_s: float
) -> Content:
    """What a client hands in instead of an update, after its halves of all steps.

    Args:
        node: the client.
        steps: which.
        number: of the update; the same again after a crash.
        update: its vectors. A "state" counts from `start`, what the server sent; the rest are changes.
        start: what it was sent.
        alike: clients count alike, whatever their samples.
        deadline_s: see `chain`.
    """
    vectors = {name: np.asarray(array, np.float32) for name, array in update.tensors.items()}
    weight = math.inf if alike or steps.alike else sum(update.labels.values())
    made = Update(changed(vectors, start), weight)
    for link in chain(steps, deadline_s=deadline_s):
        made = await link.send(node, number, made)
    return packed(made, base_of(Weights({"state": start["state"]})), {} if steps.silent else update.labels)
