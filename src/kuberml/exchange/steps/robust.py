"""The server's steps that liars cannot move far: Krum, median, trimmed mean, centred clipping; see `learning.steps.robust`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kuberml.exchange.node import Node
from kuberml.exchange.steps.options import CentredClip, Krum, TrimmedMean
from kuberml.exchange.steps.step import Step, Updates
from kuberml.exchange.steps.update import Update
from kuberml.learning.steps import robust
from kuberml.learning.types import Array


@dataclass(frozen=True)
class Choosing(Step):
    """Krum: only some of the updates count."""

    options: Krum

    async def combine(self, node: Node, number: int, updates: Updates) -> Updates:
        """Keep the nearest to their nearest; none if there are too few to say."""
        names, needed = list(updates), 2 * self.options.liars + 3
        if len(names) < needed:
            node.record("round lost", number=number, why=f"krum needs {needed} updates, {len(names)} came")
            return {}
        values = [updates[name].values_P for name in names]
        kept = await node.compute(robust.krum, values, self.options.liars, self.options.keep)
        node.record("krum", number=number, kept=[names[place] for place in kept])
        return {names[place]: updates[names[place]] for place in kept}


@dataclass(frozen=True)
class Median(Step):
    """Of each value."""

    async def combine(self, node: Node, number: int, updates: Updates) -> Updates:
        """The median, which counts as much as all together."""
        return _one(updates, await node.compute(robust.median, _values(updates))) if updates else updates


@dataclass(frozen=True)
class Trimming(Step):
    """The mean of each value without the outermost."""

    options: TrimmedMean

    async def combine(self, node: Node, number: int, updates: Updates) -> Updates:
        """The trimmed mean, which counts as much as all together."""
        share = self.options.share
        return _one(updates, await node.compute(robust.trimmed_mean, _values(updates), share)) if updates else updates


class Centring(Step):
    """The mean of the updates clipped to a ball around the mean of the round before, which the server remembers."""

    def __init__(self, options: CentredClip) -> None:
        self.options, self._centre_P = options, None

    async def combine(self, node: Node, number: int, updates: Updates) -> Updates:
        """The clipped mean, which is the next round's centre too."""
        if not updates:
            return updates
        values = _values(updates)
        centre_P = node.memory.get("centre", np.zeros_like(values[0]))
        found = await node.compute(robust.centred_clip, values, centre_P, self.options.radius, self.options.passes)
        self._centre_P = found
        return _one(updates, found)

    def remembers(self) -> Mapping[str, Any]:
        """The next centre."""
        found, self._centre_P = self._centre_P, None
        return {} if found is None else {"centre": found}


def _values(updates: Updates) -> list[Array]:
    return [one.values_P for one in updates.values()]


def _one(updates: Updates, values_P: Array) -> Updates:
    return {next(iter(updates)): Update(values_P, sum(one.weight for one in updates.values()))}
