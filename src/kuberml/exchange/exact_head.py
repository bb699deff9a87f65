"""Integrator: statistics on a frozen extractor, added exactly; the model is the head that solves them.

What is known is the sum over a *set* of contributions (see `knowledge.contributions`) and, apart from it, one's own samples
that may not be published. So a copy that somebody else signed, a version 2 beside version 1, or a merge that contains one's
own packet changes nothing or replaces what it must: nobody's data count twice. A ready head can be served, not added to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kuberml.core.errors import RemoteError
from kuberml.core.ids import Digest, LabelId
from kuberml.exchange import heads
from kuberml.exchange.exact_sum import ExactSum
from kuberml.exchange.node import Node
from kuberml.exchange.parcel import Parcel
from kuberml.knowledge.card import SignedCard
from kuberml.knowledge.contributions import Contributions
from kuberml.knowledge.kinds.extractor import Extractor, basis_of
from kuberml.knowledge.kinds.statistics import Head, Merged, Statistics, StatisticsKind, merge, sums_of
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.manifest import Contribution, single
from kuberml.knowledge.pack import make
from kuberml.learning.jobs import describe_own, solve_head
from kuberml.learning.predictor import HeadOn


class ExactHead:
    """A sum of integers: one's own, and those of the packages that were absorbed."""

    kinds: tuple[str, ...] = ("statistics", "weights")

    def __init__(
        self, node: Node, extractor: Extractor, shared: Statistics, private: Statistics, ridge: float | None = None
    ) -> None:
        """`shared` may be published, `private` is the rest of one's own samples; `ridge`: see `knowledge.ridge.solve`."""
        self._node, self.extractor, self.shared, self._private, self._ridge = node, extractor, shared, private, ridge
        self.basis: Digest = basis_of(extractor)
        self._sums = ExactSum(_contribution(node, shared) if shared.samples else None, shared)

    @classmethod
    async def describe(
        cls, node: Node, extractor: Extractor, min_class_count: int, *, step_log2: int = 8, ridge: float | None = None
    ) -> ExactHead:
        """Describe the node's data: what may be published, and what is withheld because its class is too small."""
        described = await node.compute(describe_own, extractor, node.data.train, min_class_count, step_log2)
        shared, private, withheld = described
        if withheld:
            node.record("withheld", labels=withheld)
        return cls(node, extractor, shared, private, ridge)

    def published(self, signed: SignedCard) -> None:
        """One's own packet is out under this card: what comes back and contains it names it so."""
        self._sums.published(signed.card)

    async def read(self, content: Any) -> HeadOn:
        """The head of one package alone.

        Raises:
            RemoteError: it is not statistics or a head on the same features as one's own, and could not be used.
        """
        if isinstance(content, Weights):
            return self._ready(content)
        if not isinstance(content, Statistics | Merged) or _features(sums_of(content)) != _features(self.shared):
            raise RemoteError("it does not add to what is here: other features, another grid, or no statistics at all")
        return self._on(await self._node.compute(solve_head, sums_of(content), self._ridge))

    async def model(self, parcels: Sequence[Parcel]) -> HeadOn:
        """The head of everything: of the exact sum, or a ready head where that stands on more samples.

        Raises:
            RemoteError: contributions overlap and what is at hand does not suffice to subtract the overlap.
        """
        _, total = self._sum(parcels)
        ready = [parcel for parcel in parcels if isinstance(parcel.content, Weights)]
        largest = max(ready, key=lambda parcel: (_samples(parcel), parcel.digest), default=None)
        if largest is not None and _samples(largest) > total.samples:
            return self._ready(largest.content)
        return self._on(await self._node.compute(solve_head, total, self._ridge))

    def counts(self, parcels: Iterable[Parcel]) -> dict[LabelId, int]:
        """Samples of each label behind the sums of these packages."""
        return self._sum(parcels)[1].counts

    def _sum(self, parcels: Iterable[Parcel]) -> tuple[Contributions, Statistics]:
        """What these packages and one's own are made of, each contribution once; and the sums of that, with what is private."""
        have, total = self._sums.of(parcel for parcel in parcels if not isinstance(parcel.content, Weights))
        own = self._private if self._sums.counts_mine else merge(self.shared, self._private)
        return have, own if total is None else merge(total, own)

    def _ready(self, content: Weights) -> HeadOn:
        head = heads.unpacked(content)
        if (head.basis, head.dims) != (self.basis, self.shared.dims):
            raise RemoteError(f"a head on {head.dims} features of another extractor")
        return self._on(head)

    def _on(self, head: Head) -> HeadOn:
        return HeadOn(self.extractor, head, self._node.place.shape)


def _contribution(node: Node, shared: Statistics) -> Contribution:
    """One's own packet as others would name it, published or not: the same content in a copy must not count again."""
    kind = StatisticsKind(min_class_count=1)  # nothing leaves: what may leave is checked where it is published
    packed = make(
        "statistics", shared, keys=node.place.keys, task=node.task, slot="unpublished", version=0, learned_at_ms=0, using=kind
    )
    return single(packed.card)


def _features(sums: Statistics) -> tuple[Any, ...]:
    return sums.basis, sums.dims, sums.grid, sums.profile


def _samples(parcel: Parcel) -> int:
    return sum(parcel.signed.card.labels.values())
