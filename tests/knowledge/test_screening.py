"""What no samples can have is refused: bounds, constant, symmetry, scatter, versions."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core.errors import RemoteError
from kuberml.core.rng import rng
from kuberml.knowledge.algebra import merge_all
from kuberml.knowledge.kinds.statistics import Statistics, describe
from kuberml.knowledge.moments import with_constant
from kuberml.knowledge.pack import open_value
from kuberml.knowledge.screening import check, exchange_problem, version_problem
from kuberml.knowledge.withholding import difference_problem

from .packets import BASIS, packet, publish, samples


def changed(stats: Statistics, field: str, at: tuple[int, ...], value: int) -> Statistics:
    """One entry set; the constant's row follows, so that only the intended law is broken."""
    array = getattr(stats, field).copy()
    array[at] = value
    if field == "gram_dd":
        array[at[::-1]] = value
    return msgspec.structs.replace(stats, **{field: array})


@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    count=st.integers(15, 60),
    dims=st.integers(1, 30),
    scale=st.sampled_from([1e-4, 0.01, 1, 100]),
    clip=st.sampled_from([1.0, 4.0, 16.0]),
    profile=st.sampled_from(["exact", "fp16"]),
)
def test_whatever_comes_from_samples_passes(seed: int, count: int, dims: int, scale: float, clip: float, profile: str) -> None:
    z_Nd, y_N = samples(seed, count, dims)
    stats, _ = describe(z_Nd * scale, y_N, basis=BASIS, clip=clip, profile=profile)
    check(stats)
    check(merge_all([stats, packet(seed + 1, dims=dims, clip=clip, profile=profile)]))
    assert open_value(publish(stats)).digest == stats.digest


@pytest.mark.parametrize("profile", ["exact", "fp16"])
@pytest.mark.parametrize(
    ("field", "at", "value", "message"),
    [
        ("gram_dd", (3, 3), 2**62, "Gram entry is over 40 samples"),
        ("gram_dd", (3, 4), -(2**62), "Gram entry is over 40 samples"),
        ("sums_dC", (3, 1), 2**40, "class sum of 'b' is over 13 samples"),
        ("gram_dd", (3, 3), 0, "positive semi-definite"),
        ("gram_dd", (0, 0), 0, "constant's row"),
        ("gram_dd", (0, 4), 1, "constant's row"),
        ("sums_dC", (0, 1), 0, "constant's class sums"),
        ("counts_C", (1,), 0, "0 samples"),
    ],
)
def test_what_no_samples_have_is_refused(profile: str, field: str, at: tuple[int, ...], value: int, message: str) -> None:
    with pytest.raises(RemoteError, match=message):
        check(changed(packet(1, profile=profile), field, at, value))


def test_what_does_not_fit_together_is_refused() -> None:
    stats = packet(1)
    lopsided = stats.gram_dd.copy()
    lopsided[3, 4] += 1
    for changes, message in (
        ({"gram_dd": lopsided}, "not symmetric"),
        ({"gram_dd": stats.gram_dd[:5, :5]}, "do not fit"),
        ({"sums_dC": stats.sums_dC[:, :2]}, "do not fit"),
        ({"labels": ("a", "c", "b")}, "sorted"),
        ({"labels": ("a", "a", "b")}, "unique"),
        ({"labels": ("a", "b")}, "2 labels have 3 counts"),
        ({"counts_C": np.array([2**40] * 3), "clip": 2**25}, "overflow"),
    ):
        with pytest.raises(RemoteError, match=message):
            check(msgspec.structs.replace(stats, **changes))


@pytest.mark.parametrize("profile", ["exact", "fp16"])
def test_class_sums_that_the_gram_matrix_does_not_carry_are_refused_on_arrival(profile: str) -> None:
    stats = packet(1, profile=profile)
    forged = with_constant(msgspec.structs.replace(stats, sums_dC=stats.sums_dC * 4))
    with pytest.raises(RemoteError, match="positive semi-definite"):
        open_value(publish(forged))


@pytest.mark.parametrize(
    ("before", "after", "wrong"),
    [
        ({"a": 9}, {"a": 9}, False),
        ({"a": 9}, {"a": 14}, False),
        ({"a": 9}, {"a": 13}, True),
        ({"a": 9}, {"a": 5}, True),
        ({"a": 9}, {}, False),
        ({}, {"a": 4}, True),
        ({"a": 9, "b": 5}, {"a": 9, "b": 10, "c": 5}, False),
    ],
)
def test_two_versions_may_not_show_few_samples(before: dict[str, int], after: dict[str, int], wrong: bool) -> None:
    assert (difference_problem(before, after, 5) is not None) is wrong


@pytest.mark.parametrize("profile", ["exact", "fp16"])
def test_two_versions_may_not_swap_a_sample(profile: str) -> None:
    z_Nd, y_N = samples(1, count=30)
    before, _ = describe(z_Nd, y_N, basis=BASIS, profile=profile)
    z_Nd[0] += 3 * rng(2, "swap").normal(size=12)
    swapped, _ = describe(z_Nd, y_N, basis=BASIS, profile=profile)
    grown, _ = describe(np.concatenate([z_Nd, z_Nd[1:2].repeat(5, 0)]), y_N + ["b"] * 5, basis=BASIS, profile=profile)
    assert exchange_problem(before, before) is None
    assert "'a' has as many samples" in str(exchange_problem(before, swapped))
    assert "'a' has as many samples" in str(exchange_problem(before, grown))
    assert exchange_problem(swapped, grown) is None


def test_versions_are_compared_only_where_they_subtract() -> None:
    before = packet(1)
    other = msgspec.structs.replace(before, basis=BASIS[::-1], counts_C=before.counts_C + 1)
    fewer = msgspec.structs.replace(other, basis=before.basis)
    assert version_problem(before, before) is None
    assert "changed by +1" in str(version_problem(before, fewer))
    assert version_problem(before, other) is None
