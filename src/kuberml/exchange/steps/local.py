"""Steps that a client does by itself: clipping, top-k, quantising. See `learning.steps` for the formulas."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kuberml.core.rng import seed_of
from kuberml.exchange.memory import Memory
from kuberml.exchange.node import Node
from kuberml.exchange.steps.options import Clip, Quantise, TopK
from kuberml.exchange.steps.step import Step
from kuberml.exchange.steps.update import Update
from kuberml.learning.steps.clipping import clip
from kuberml.learning.steps.compression import common, largest, only, quantise
from kuberml.learning.types import Array


@dataclass(frozen=True)
class Clipping(Step):
    """The client clips; the server, which need not believe that, clips again what it can see."""

    options: Clip

    async def send(self, node: Node, number: int, update: Update) -> Update:
        """Clip."""
        return update.with_values(clip(update.values_P, self.options.norm))

    async def open(self, node: Node, update: Update) -> Update:
        """Clip again."""
        return update if update.words_V is not None else update.with_values(clip(update.values_P, self.options.norm))


@dataclass(frozen=True)
class Sparsifying(Step):
    """Few values are sent; the rest is added to the next update."""

    options: TopK

    async def send(self, node: Node, number: int, update: Update) -> Update:
        """Keep the largest values, or those whose turn it is, and remember the rest."""
        options = self.options
        before_P = _feedback(node.memory, number, update.values_P) if options.feedback else np.zeros_like(update.values_P)
        whole_P = update.values_P + before_P
        if options.support == "common":
            places_k = common(whole_P.size, options.fraction, seed_of(0, "support", number))
        else:
            places_k = largest(whole_P, options.fraction)
        sent_P = only(whole_P, places_k)
        if options.feedback:
            node.memory.update(feedback=whole_P - sent_P, feedback_before=before_P, feedback_number=number)
        return replace(update, values_P=sent_P, places_k=places_k, codes_P=None)


@dataclass(frozen=True)
class Quantising(Step):
    """Few bits of each value are sent."""

    options: Quantise

    async def send(self, node: Node, number: int, update: Update) -> Update:
        """Round each value up or down so that it is right on average."""
        codes_P, scale = quantise(update.values_P, self.options.bits, node.seed("quantise", number))
        return replace(update, values_P=codes_P.astype(np.float32) * scale, codes_P=codes_P, scale=scale)


def _feedback(memory: Memory, number: int, like_P: Array) -> Array:
    """What was left out before this update: a server that crashed asks again, and is told the same again."""
    name = "feedback_before" if memory.get("feedback_number", -1) == number else "feedback"
    found: Array | None = memory.get(name)
    return np.zeros_like(like_P) if found is None or found.shape != like_P.shape else found
