"""The step `dp`: noise on clipped updates, and an account of what it promises. Formulas: `learning.steps.privacy`.

With noise at the server the promise is towards everybody but the server, which sees each update. With noise at the client it
is towards the server too: alone, each update carries the whole noise; behind masks, which show only sums, each carries so much
that those who must answer to the end carry it together (C. Dwork, K. Kenthapadi, F. McSherry, I. Mironov, M. Naor: Our Data,
Ourselves: Privacy via Distributed Noise Generation. EUROCRYPT 2006). What rounding adds is not accounted for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from kuberml.core.ids import NodeId
from kuberml.exchange.node import Node
from kuberml.exchange.steps.mask_session import threshold_of
from kuberml.exchange.steps.options import Steps
from kuberml.exchange.steps.step import Step, Updates
from kuberml.exchange.steps.update import Update
from kuberml.learning.averaging import Mean
from kuberml.learning.steps.privacy import Promise, Sampling, noised, promise

PROMISE = "privacy"
"""The event that a promise is recorded as."""


class Privacy(Step):
    """See the top of the file."""

    def __init__(self, steps: Steps, sampling: Sampling, share: float) -> None:
        """`sampling`: how a cohort is drawn, and which `share` of the clients it is.

        Raises:
            MissingExtra: there is no accountant.
        """
        self.options, self.masked = steps.dp, "masks" in steps.names
        self.deviation = steps.dp.noise * steps.clip.norm
        self.sampling, self.share = sampling, share
        self._size, self._of, self._next = 1, 1, dict[str, Any]()
        promise(self.options.noise, self.options.delta, 0)

    async def send(self, node: Node, number: int, update: Update) -> Update:
        """Add this client's part of the noise."""
        if self.options.at == "server":
            return update
        if self.masked:
            part = self.deviation / float(np.sqrt(threshold_of(node.memory)))
        else:
            part = self.deviation
            releases = node.memory.get("releases", 0) + 1
            node.memory.update(releases=releases)
            self._record(node, promise(self.options.noise, self.options.delta, releases))
        return update.with_values(await node.compute(noised, update.values_P, part, node.secret("dp", number)))

    async def agree(self, node: Node, number: int, cohort: Sequence[NodeId]) -> Sequence[NodeId]:
        """Look at how many were drawn of how many."""
        self._size, self._of = len(cohort), max(1, len(node.peers("client")))
        return cohort

    async def combine(self, node: Node, number: int, updates: Updates) -> Updates:
        """Give the mean of the updates, with the server's noise if it is the server's to add, and account for it."""
        if not updates or (self.options.at == "client" and not self.masked):
            return updates
        name, count = next(iter(updates)), sum(one.weight for one in updates.values())
        mean = Mean()
        for one in updates.values():
            mean.add(one.values_P, one.weight)
        mean_P = mean.result(updates[name].values_P)
        if self.options.at == "server":
            mean_P = await node.compute(noised, mean_P, self.deviation / count, node.secret("dp", number))
        self._next = self._account(node)
        return {name: Update(mean_P, count)}

    def remembers(self) -> Mapping[str, Any]:
        """How many sums were given away, and the worst draw so far."""
        found, self._next = self._next, {}
        return found

    def _account(self, node: Node) -> dict[str, Any]:
        releases = node.memory.get("releases", 0) + 1
        size, of = self._size, self._of
        worst_size, worst_of = node.memory.get("drawn", (0, 1))
        if size * worst_of < worst_size * of:
            size, of = worst_size, worst_of
        # Noise at the clients is against the server, which knows whom it drew: nothing is gained by drawing.
        sampling: Sampling = "all" if self.options.at == "client" else self.sampling
        made = promise(self.options.noise, self.options.delta, releases, sampling=sampling, of=of, drawn=size, share=self.share)
        self._record(node, made)
        return {"releases": releases, "drawn": (size, of)}

    def _record(self, node: Node, made: Promise) -> None:
        node.record(PROMISE, at=self.options.at, norm=self.deviation / self.options.noise, **msgspec.structs.asdict(made))
