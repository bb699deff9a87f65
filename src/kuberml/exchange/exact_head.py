"""Integrator: statistics on a frozen extractor, added exactly; the model is the head that solves them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from kuberml.core.errors import RemoteError
from kuberml.core.ids import Digest, LabelId
from kuberml.exchange.node import Node
from kuberml.exchange.parcel import Parcel
from kuberml.knowledge.contributions import Contributions, Refused, apply, plan
from kuberml.knowledge.kinds.extractor import Extractor, basis_of
from kuberml.knowledge.kinds.statistics import Head, Statistics, merge
from kuberml.knowledge.manifest import content_of, single
from kuberml.learning.jobs import describe_data, solve_head
from kuberml.learning.predictor import HeadOn


class ExactHead:
    """What is known is a sum of integers: one's own, and those of the packages that were absorbed."""

    kinds: tuple[str, ...] = ("statistics",)

    def __init__(self, node: Node, extractor: Extractor, own: Statistics, shared: Statistics) -> None:
        """`own` is everything this node knows; `shared` is what of it may be published (see `describe`)."""
        self._node, self.extractor, self.own, self.shared = node, extractor, own, shared
        self.basis: Digest = basis_of(extractor)

    @classmethod
    async def describe(cls, node: Node, extractor: Extractor, min_class_count: int) -> ExactHead:
        """Describe the node's data: once for itself, and once without the classes that are too small to publish."""
        own, _ = await node.compute(describe_data, extractor, node.data.train, 1)
        shared, withheld = await node.compute(describe_data, extractor, node.data.train, min_class_count)
        if withheld:
            node.record("withheld", labels=withheld)
        return cls(node, extractor, own, shared)

    async def read(self, content: Any) -> HeadOn:
        """The head of one packet alone.

        Raises:
            RemoteError: it is not statistics of the same features as one's own, and could not be added; or it is one's own.
        """
        mine = (self.own.basis, self.own.dims, self.own.grid, self.own.profile)
        if not isinstance(content, Statistics) or (content.basis, content.dims, content.grid, content.profile) != mine:
            raise RemoteError("it does not add to what is here: other features, another grid, or no statistics at all")
        if np.array_equal(content.gram_dd, self.shared.gram_dd) and np.array_equal(content.counts_C, self.shared.counts_C):
            raise RemoteError("it is a copy of one's own data, which count already")
        return self._head(await self._node.compute(solve_head, content))

    async def model(self, parcels: Sequence[Parcel]) -> Any:
        """The head of everything: of copies one, of an author's slot the highest version.

        Raises:
            RemoteError: a package is older than one of its slot that is there, or changes it by single samples.
        """
        total = together(parcels)[1]
        merged = self.own if total is None else merge(self.own, total)
        return self._head(await self._node.compute(solve_head, merged))

    def _head(self, head: Head) -> HeadOn:
        return HeadOn(self.extractor, head, self._node.place.shape)

    def counts(self, parcels: Iterable[Parcel]) -> dict[LabelId, int]:
        """Samples of each label behind the model of these packages."""
        total = dict(zip(self.own.labels, self.own.counts_C.tolist(), strict=True))
        for label, count in together(list(parcels))[0].counts.items():
            total[label] = total.get(label, 0) + count
        return total


def together(parcels: Sequence[Parcel]) -> tuple[Contributions, Statistics | None]:
    """What several packages are made of and their sums, in which nobody's data count twice; None without packages.

    Raises:
        RemoteError: one of them cannot be taken in beside those before it, see `knowledge.contributions`.
    """
    at_hand: dict[Digest, Statistics] = {content_of(parcel.signed.card): parcel.content for parcel in parcels}
    held = {content: frozenset({content}) for content in at_hand}
    have, total = Contributions(), None
    for parcel in parcels:
        step = plan(have, (single(parcel.signed.card),), held)
        if isinstance(step, Refused):
            raise RemoteError(step.reason)
        total, have = apply(step, total, parcel.content, at_hand.__getitem__), step.after
    return have, total
