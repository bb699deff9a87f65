"""Integrator: statistics on a frozen extractor, added exactly; the model is the head that solves them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import Digest, LabelId
from kuberml.exchange.node import Node
from kuberml.exchange.parcel import Parcel, distinct
from kuberml.knowledge.kinds.extractor import Extractor, basis_of
from kuberml.knowledge.kinds.statistics import Head, Statistics, merge_all
from kuberml.knowledge.screening import version_problem
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
            RemoteError: it is not statistics of the same features as one's own, and could not be added.
        """
        mine = (self.own.basis, self.own.dims, self.own.grid, self.own.profile)
        if not isinstance(content, Statistics) or (content.basis, content.dims, content.grid, content.profile) != mine:
            raise RemoteError("it does not add to what is here: other features, another grid, or no statistics at all")
        return self._head(await self._node.compute(solve_head, content))

    async def model(self, parcels: Sequence[Parcel]) -> Any:
        """The head of everything.

        Raises:
            RemoteError: versions of a slot differ by single samples, or the sums overflow, which honest samples never do.
        """
        _check_versions(parcels)
        try:
            merged = merge_all([self.own, *(parcel.content for parcel in self._taken(parcels))])
        except ConfigError as error:
            raise RemoteError(f"it does not add to what is here: {error}") from error
        return self._head(await self._node.compute(solve_head, merged))

    def _taken(self, parcels: Iterable[Parcel]) -> list[Parcel]:
        return distinct(parcels, own=(self.own.digest, self.shared.digest))

    def _head(self, head: Head) -> HeadOn:
        return HeadOn(self.extractor, head, self._node.place.shape)

    def counts(self, parcels: Iterable[Parcel]) -> dict[LabelId, int]:
        """Samples of each label behind the model of these packages."""
        total = dict(zip(self.own.labels, self.own.counts_C.tolist(), strict=True))
        for parcel in self._taken(parcels):
            for label, count in parcel.signed.card.labels.items():
                total[label] = total.get(label, 0) + count
        return total


def _check_versions(parcels: Sequence[Parcel]) -> None:
    """Whoever has two versions of a slot can subtract them: the difference must stand on as many samples as a packet."""
    versions = sorted(parcels, key=lambda one: (one.place, one.signed.card.version))
    for old, new in pairwise(versions):
        if old.place == new.place and (problem := version_problem(old.content, new.content)):
            raise RemoteError(f"version {new.signed.card.version} of {new.place[1]!r}: {problem}")
