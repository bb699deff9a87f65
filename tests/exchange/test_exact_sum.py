"""What was added up before is not added up again, and whoever begins anew comes to the same."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuberml.core.errors import RemoteError
from kuberml.exchange import exact_sum
from kuberml.exchange.exact_sum import ExactSum
from kuberml.knowledge.kinds.statistics import Statistics
from kuberml.knowledge.manifest import single
from tests.exchange.test_exact_head import merged, parcel
from tests.exchange.town import data, statistics

MINE = statistics(data("01"))
LABELS = ("23", "45", "67", "89", "0123")


@functools.cache
def packages() -> list[Any]:
    """Single packets, a newer version, a copy of somebody else's, and merges that overlap."""
    ones = [parcel(statistics(data(labels, part=1 + k % 4)), f"a{k}") for k, labels in enumerate(LABELS)]
    newer = parcel(statistics(data("2345", part=1, train=14)), "a0", version=1)
    copy = parcel(ones[1].content, "thief")
    mine = parcel(MINE, "me")
    return [*ones, newer, copy, merged(*ones[:3]), merged(*ones[2:], author="other"), merged(mine, ones[0], author="third")]


def fresh() -> ExactSum:
    return ExactSum(single(parcel(MINE, "me").signed.card), MINE)


def outcome(sums: ExactSum, parcels: list[Any]) -> Any:
    try:
        have, total = sums.of(parcels)
    except RemoteError as error:
        return str(error)
    assert isinstance(total, Statistics)
    return have, total.digest


@given(st.lists(st.lists(st.integers(0, 9), unique=True, max_size=7), min_size=1, max_size=6))
def test_a_sum_that_goes_on_is_the_sum_that_begins_anew(asked: list[list[int]]) -> None:
    going_on = fresh()
    for places in asked:
        for count in range(1, len(places) + 1):  # as trials do: what is kept, and one more
            parcels = [packages()[place] for place in places[:count]]
            assert outcome(going_on, parcels) == outcome(fresh(), parcels)


def test_a_trial_costs_one_addition_however_much_was_absorbed(monkeypatch: pytest.MonkeyPatch) -> None:
    counted, real = [], exact_sum.plan
    monkeypatch.setattr(exact_sum, "plan", lambda *args: counted.append(1) or real(*args))
    sums, kept = fresh(), packages()[:3]
    sums.of([*kept, packages()[3]])
    assert len(counted) == 4
    for last in packages()[3:5]:
        counted.clear()
        sums.of([*kept, last])
        assert len(counted) == 1


def test_who_publishes_afterwards_begins_anew() -> None:
    sums, card = ExactSum(None, MINE), parcel(MINE, "me").signed.card
    three = packages()[:3]
    without = outcome(sums, three)
    sums.published(card)
    assert outcome(sums, three) == outcome(fresh(), three) != without
