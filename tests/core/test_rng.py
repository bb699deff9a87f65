from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core.errors import InternalError
from kuberml.core.rng import rng, seed_of

NAMES = st.lists(st.integers(-(2**63), 2**64 - 1) | st.text(max_size=6), max_size=4)


def test_golden_streams() -> None:
    """If one of these changes, every result of every seed changes: that is a new major version, not a fix."""
    assert rng(0).integers(2**32, size=4).tolist() == [3538530033, 1629514760, 2987049204, 1307304032]
    assert rng(7, "node", "n3", "cohort", 7).integers(2**63, size=2).tolist() == [8443040069162240503, 7960570497335994983]
    assert seed_of(0, "a") == 6866822016650921206
    assert seed_of(-1, -5) == 8759059499934210839


def test_golden_permutation_and_normal() -> None:
    """What partitions and initial weights are drawn with."""
    assert rng(1, "partition").permutation(8).tolist() == [3, 0, 2, 5, 1, 4, 7, 6]
    assert rng(1, "init").standard_normal(2).tolist() == pytest.approx([0.022418564740432204, 0.08663882297932622], rel=1e-14)


@given(st.integers(-(2**63), 2**64 - 1), NAMES)
@settings(max_examples=50, derandomize=True)
def test_the_same_name_is_the_same_stream(root: int, name: list[int | str]) -> None:
    assert rng(root, *name).bytes(16) == rng(root, *name).bytes(16)
    assert 0 <= seed_of(root, *name) < 2**63


@given(st.integers(0, 3), NAMES, st.integers(0, 3), NAMES)
@settings(max_examples=100, derandomize=True)
def test_different_names_are_different_streams(
    root: int, name: list[int | str], other_root: int, other: list[int | str]
) -> None:
    if (root, name) != (other_root, other):
        assert rng(root, *name).bytes(16) != rng(other_root, *other).bytes(16)


def test_parts_never_run_together() -> None:
    names: list[tuple[str | int, ...]] = [
        ("a", "b"), ("ab",), ("", "ab"), ("ab", ""), ("a", "", "b"), ("a/b",), ("b", "a"), (), ("",),
        (1,), ("1",), (-1,), (255,), (256,), (0,), ("0",), (1, 2), (12,), ("a", 1), ("a1",),
    ]  # fmt: skip
    assert len({seed_of(5, *name) for name in names}) == len(names)
    assert seed_of(5, 6) != seed_of(6, 5)


def test_a_draw_shifts_no_other_stream() -> None:
    one, other = rng(3, "one"), rng(3, "other")
    one.random(1000)
    assert other.random() == rng(3, "other").random()


def test_streams_look_independent() -> None:
    """Correlation of neighbouring substreams: mean of 200 pairs of 500 draws, standard deviation 1 / sqrt(100,000)."""
    streams = [rng(11, "node", k).standard_normal(500) for k in range(201)]
    correlations = [float(np.mean(left * right)) for left, right in itertools.pairwise(streams)]
    assert abs(np.mean(correlations)) < 5 / np.sqrt(100_000)


@pytest.mark.parametrize("part", [True, None, 1.0, b"a", np.int64(1), np.str_("a"), ("a", "b"), 2**64, -(2**63) - 1, "\ud800"])
def test_only_integers_and_text_name_a_stream(part: object) -> None:
    with pytest.raises(InternalError):
        rng(0, part)  # type: ignore[arg-type]
    with pytest.raises(InternalError):
        seed_of(part)  # type: ignore[arg-type]
    assert type(part) is not int or not -(2**63) <= part < 2**64


def test_the_global_generator_is_left_alone() -> None:
    before = np.random.get_state(legacy=True)
    rng(0, "x").random(10)
    after = np.random.get_state(legacy=True)
    assert np.array_equal(before[1], after[1])
