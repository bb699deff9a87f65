from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core.errors import ConfigError
from kuberml.core.rng import rng
from kuberml.core.values import digest
from kuberml.learning.partitions import partition

KINDS: list[tuple[str, dict[str, Any]]] = [
    ("iid", {}),
    ("dirichlet", {"alpha": 0.1, "min_samples": 2}),
    ("shards", {"per_learner": 2}),
    ("labels", {"per_learner": 3}),
    ("natural", {}),
]


def _labels(samples: int = 400, labels: int = 10) -> np.ndarray[Any, Any]:
    return rng(0, "labels").integers(0, labels, samples)


@pytest.mark.parametrize(("kind", "options"), KINDS)
@settings(max_examples=25, derandomize=True, deadline=None)
@given(count=st.integers(4, 10), seed=st.integers(0, 2**40))
def test_each_index_belongs_to_exactly_one_learner(kind: str, options: dict[str, Any], count: int, seed: int) -> None:
    y_N = _labels()
    parts = partition(kind, y_N, count, rng(seed), **options)

    assert len(parts) == count
    assert all(part.dtype == np.int32 and np.all(np.diff(part) > 0) for part in parts)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(y_N)))


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_the_stream_decides(kind: str, options: dict[str, Any]) -> None:
    y_N = _labels()
    first, same = (partition(kind, y_N, 5, rng(1, "partition"), **options) for _ in range(2))
    other = partition(kind, y_N, 5, rng(2, "partition"), **options)

    assert digest(list(first)) == digest(list(same))
    assert digest(list(first)) != digest(list(other))


def test_iid_sizes_differ_by_at_most_one() -> None:
    sizes = [len(part) for part in partition("iid", _labels(103), 10, rng(0))]
    assert max(sizes) - min(sizes) <= 1


def test_dirichlet_skew_grows_as_alpha_falls() -> None:
    y_N = _labels(4000)

    def skew(alpha: float) -> float:
        parts = partition("dirichlet", y_N, 8, rng(3), alpha=alpha)
        return float(np.mean([np.bincount(y_N[part], minlength=10).max() / len(part) for part in parts]))

    assert skew(0.05) > skew(0.5) > skew(100.0)
    assert skew(100.0) < 0.15


def test_dirichlet_keeps_its_minimum_even_where_draws_never_do() -> None:
    parts = partition("dirichlet", _labels(100), 20, rng(0), alpha=0.01, min_samples=5)
    assert [len(part) for part in parts] == [5] * 20


@settings(max_examples=40, derandomize=True, deadline=None)
@given(count=st.integers(4, 30), per_learner=st.integers(3, 10), seed=st.integers(0, 2**40))
def test_labels_gives_exactly_k_labels_and_every_label_an_owner(count: int, per_learner: int, seed: int) -> None:
    y_N = _labels(1000)
    parts = partition("labels", y_N, count, rng(seed), per_learner=per_learner)

    assert {len(np.unique(y_N[part])) for part in parts} == {per_learner}
    owners = [sum(label in y_N[part] for part in parts) for label in range(10)]
    assert max(owners) - min(owners) <= 1


def test_shards_hold_few_labels() -> None:
    y_N = np.repeat(np.arange(10), 60)
    parts = partition("shards", y_N, 10, rng(0), per_learner=2)
    assert all(len(np.unique(y_N[part])) <= 4 and len(part) == 60 for part in parts)


def test_natural_keeps_owners_whole() -> None:
    group_N = _labels(500, labels=40)
    parts = partition("natural", group_N, 6, rng(0))

    held = [set(group_N[part].tolist()) for part in parts]
    assert sum(map(len, held)) == len(set.union(*held)) == 40
    assert max(map(len, parts)) < 1.3 * min(map(len, parts))


def test_natural_with_one_learner_a_group_keeps_the_order_of_groups() -> None:
    parts = partition("natural", np.array([2, 0, 1, 0, 2]), 3, rng(9))
    assert [part.tolist() for part in parts] == [[1, 3], [2], [0, 4]]


@pytest.mark.parametrize(
    ("kind", "count", "options", "message"),
    [
        ("idd", 2, {}, "did you mean 'iid'"),
        ("dirichlet", 2, {"beta": 1}, "unknown option 'beta'"),
        ("dirichlet", 2, {"alpha": 0.0}, "alpha must be positive"),
        ("dirichlet", 10, {"min_samples": 41}, "cannot have 41 samples each"),
        ("labels", 2, {"per_learner": 3}, "cannot own 10 labels"),
        ("labels", 2, {"per_learner": 11}, r"1\.\.10"),
        ("shards", 100, {"per_learner": 5}, "cannot be cut"),
        ("natural", 11, {}, "cannot share 10 groups"),
        ("iid", 0, {}, "0 learners"),
        ("iid", 401, {}, "401 learners"),
        ("dirichlet", 4, {"alpha": "x"}, "alpha must be a number, not 'x'"),
        ("dirichlet", 4, {"alpha": float("nan")}, "alpha must be positive and finite"),
        ("labels", 4, {"per_learner": 1.5}, "per_learner must be a whole number, not 1.5"),
    ],
)
def test_impossible_divisions_are_refused(kind: str, count: int, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        partition(kind, _labels(), count, rng(0), **options)
