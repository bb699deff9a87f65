"""The sums behind a head are those of a set of contributions: nobody's data count twice, whatever comes in whatever form."""

from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from kuberml.core.errors import RemoteError
from kuberml.exchange import heads
from kuberml.exchange.exact_head import ExactHead
from kuberml.exchange.node import Node
from kuberml.exchange.parcel import Parcel
from kuberml.knowledge.card import Knowledge
from kuberml.knowledge.kinds.statistics import Merged, Statistics, merge_all, solve, sums_of
from kuberml.knowledge.manifest import single
from kuberml.knowledge.pack import make, open_value
from tests.exchange.town import EXTRACTOR, Town, data, keys, statistics

MINE = data("01")
A, B, C = (statistics(data(labels, part=1)) for labels in ("23", "45", "67"))


def parcel(content: Any, author: str, *, version: int = 0, slot: str = "shard") -> Parcel:
    """As delivered: packed, signed, opened."""
    knowledge = make("weights" if not isinstance(content, Statistics | Merged) else "statistics", content,
                     keys=keys(author), task="digits", slot=slot, version=version, learned_at_ms=0)  # fmt: skip
    return Parcel(knowledge.signed, open_value(Knowledge(knowledge.signed, knowledge.blobs)), {}, {})


def merged(*parcels: Parcel, author: str = "hub") -> Parcel:
    """A merge of single packets, as a gatherer publishes it."""
    parts = tuple(sorted((single(one.signed.card) for one in parcels), key=lambda each: each.place))
    return parcel(Merged(merge_all([one.content for one in parcels]), parts), author, slot="merge")


def with_head(try_out: Callable[[ExactHead, Parcel], Any], *, own: Any = MINE, minimum: int = 5) -> Any:
    """What a learner with its own data, published, makes of it; `try_out` gets its own packet too."""

    async def main(node: Node) -> Any:
        head = await ExactHead.describe(node, EXTRACTOR, minimum)
        mine = parcel(head.shared, "me") if head.shared.labels else None
        if mine is not None:
            head.published(mine.signed)
        return await try_out(head, mine)  # type: ignore[arg-type]

    return Town("me", me={"data": own}).run(me=main)["me"]


def weights_of(*parcels: Parcel, own: Any = MINE) -> Any:
    return with_head(lambda head, _: head.model(parcels), own=own).head.weights_dC


def pooled(*packets: Statistics) -> Any:
    return solve(merge_all([statistics(MINE), *packets])).weights_dC


def test_single_packets_add_up_to_the_pooled_head_in_any_order() -> None:
    parcels = [parcel(A, "a"), parcel(B, "b"), parcel(C, "c")]
    for order in permutations(parcels):
        np.testing.assert_array_equal(weights_of(*order), pooled(A, B, C))


def test_a_copy_that_somebody_else_signed_counts_once() -> None:
    np.testing.assert_array_equal(weights_of(parcel(A, "a"), parcel(A, "thief")), pooled(A))


def test_a_copy_of_my_own_packet_changes_nothing() -> None:
    np.testing.assert_array_equal(weights_of(parcel(statistics(MINE), "thief")), pooled())


def test_a_new_version_replaces_the_old_one() -> None:
    more = merge_all([A, statistics(data("23", part=2))])
    np.testing.assert_array_equal(weights_of(parcel(A, "a"), parcel(more, "a", version=1)), pooled(more))


def test_a_merge_that_holds_my_own_packet_does_not_count_me_twice() -> None:
    async def model(head: ExactHead, mine: Parcel) -> Any:
        return await head.model([merged(mine, parcel(A, "a"), parcel(B, "b"))])

    np.testing.assert_array_equal(with_head(model).head.weights_dC, pooled(A, B))


def test_merges_that_overlap_are_disentangled_with_what_is_at_hand() -> None:
    a, b, c = parcel(A, "a"), parcel(B, "b"), parcel(C, "c")
    np.testing.assert_array_equal(weights_of(a, merged(a, b)), pooled(A, B))
    np.testing.assert_array_equal(weights_of(b, merged(a, b), merged(b, c)), pooled(A, B, C))


def test_merges_that_cannot_be_disentangled_are_refused() -> None:
    a, b, c = parcel(A, "a"), parcel(B, "b"), parcel(C, "c")
    with pytest.raises(RemoteError, match="overlaps"):
        weights_of(merged(a, b), merged(b, c))


def test_what_may_not_be_published_still_counts_for_its_owner() -> None:
    few = data("01", train=3)

    async def model(head: ExactHead, mine: Parcel | None) -> Any:
        assert mine is None
        return await head.model([parcel(A, "a")])

    found = with_head(model, own=few)
    assert found.labels == ("0", "1", "2", "3")
    assert with_head(lambda head, _: _async(head.counts([parcel(A, "a")])), own=few) == {"0": 3, "1": 3, "2": 14, "3": 14}


def test_a_ready_head_is_served_where_it_stands_on_more() -> None:
    everything = merge_all([statistics(MINE), A, B])
    ready = parcel(heads.packed(solve(everything), everything.counts), "hub", slot="head")
    np.testing.assert_array_equal(weights_of(ready), solve(everything).weights_dC)
    np.testing.assert_array_equal(weights_of(ready, *(parcel(one, name) for one, name in ((A, "a"), (B, "b"), (C, "c")))),
                                  pooled(A, B, C))  # fmt: skip


def test_what_does_not_fit_is_the_peers_fault() -> None:
    other = parcel(heads.packed(solve(Statistics(A.labels, A.counts_C, A.sums_dC[:9], A.gram_dd[:9, :9], A.basis))), "hub")
    with pytest.raises(RemoteError, match="8 features"):
        with_head(lambda head, _: head.read(other.content))
    with pytest.raises(RemoteError, match="does not add"):
        with_head(lambda head, _: head.read("no statistics"))


def test_a_merge_alone_answers_like_its_sum() -> None:
    both = merged(parcel(A, "a"), parcel(B, "b"))
    found = with_head(lambda head, _: head.read(both.content))
    np.testing.assert_array_equal(found.head.weights_dC, solve(sums_of(both.content)).weights_dC)


async def _async(value: Any) -> Any:
    return value
