"""Steps on updates against their papers' equations, on numbers small enough to do by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kuberml.core.errors import ConfigError
from kuberml.learning.steps.clipping import clip, norm
from kuberml.learning.steps.compression import common, largest, only, quantise
from kuberml.learning.steps.robust import centred_clip, krum, krum_scores, median, trimmed_mean
from kuberml.learning.types import Array

VECTORS = arrays(np.float32, st.integers(1, 40), elements=st.floats(-1e6, 1e6, width=32))


def vector(*numbers: float) -> Array:
    return np.array(numbers, np.float32)


def test_clipping_keeps_what_is_short_and_scales_what_is_long() -> None:
    np.testing.assert_array_equal(clip(vector(3, 4), 5.0), vector(3, 4))
    np.testing.assert_allclose(clip(vector(3, 4), 1.0), [0.6, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(clip(vector(0, 0), 1.0), vector(0, 0))


@given(VECTORS, st.floats(1e-3, 1e3))
def test_nothing_clipped_is_over_the_norm(values_P: Array, limit: float) -> None:
    """Not even by a rounding: the noise is measured against it."""
    assert norm(clip(values_P, limit)) <= limit


def test_median_and_trimmed_mean_by_hand() -> None:
    updates = [vector(1, 10), vector(2, 20), vector(3, -90), vector(4, 40), vector(1000, 50)]
    np.testing.assert_array_equal(median(updates), vector(3, 20))
    np.testing.assert_allclose(trimmed_mean(updates, 0.2), [3, (10 + 20 + 40) / 3], rtol=1e-6)
    np.testing.assert_array_equal(trimmed_mean(updates, 0.0), np.mean(updates, axis=0).astype(np.float32))
    np.testing.assert_array_equal(median(updates[:2]), vector(1.5, 15))


def test_trimming_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="1 of 2"):
        trimmed_mean([vector(1), vector(2)], 0.5)


def test_krum_by_hand() -> None:
    """Five on a line, one liar: each scores by its 5 - 1 - 2 = 2 nearest."""
    updates = [vector(x) for x in (0, 1, 3, 4, 100)]
    expected = [1 + 9, 1 + 4, 1 + 4, 1 + 9, 96**2 + 97**2]
    np.testing.assert_array_equal(krum_scores(updates, 1), expected)
    assert krum(updates, 1, 1) == [1]  # of equal scores the first
    assert krum(updates, 1, 2) == [1, 2]
    assert krum(updates, 1, 4) == [0, 1, 2, 3]
    with pytest.raises(ConfigError, match="needs 5 updates or more, not 4"):
        krum(updates[:4], 1, 1)


@given(st.integers(0, 2), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_krum_is_what_the_definition_says(liars: int, seed: int) -> None:
    draw = np.random.Generator(np.random.Philox(seed))
    updates = [draw.normal(size=3).astype(np.float32) for _ in range(2 * liars + 4)]
    near = len(updates) - liars - 2
    plain = [
        sum(sorted(float(((a.astype(np.float64) - b) ** 2).sum()) for j, b in enumerate(updates) if j != i)[:near])
        for i, a in enumerate(updates)
    ]
    np.testing.assert_allclose(krum_scores(updates, liars), plain, rtol=1e-12)
    assert krum(updates, liars, 1) == [int(np.argmin(plain))]


def test_centred_clipping_by_hand() -> None:
    """From v = 0 with radius 1: (3, 4) counts as (0.6, 0.8), (0, 0.5) as it is; then again from there."""
    updates = [vector(3, 4), vector(0, 0.5)]
    first = np.array([0.6, 0.8 + 0.5]) / 2
    np.testing.assert_allclose(centred_clip(updates, vector(0, 0), 1.0, 1), first, rtol=1e-6)
    moves = [(np.array(u) - first) * min(1, 1 / np.linalg.norm(np.array(u) - first)) for u in updates]
    np.testing.assert_allclose(centred_clip(updates, vector(0, 0), 1.0, 2), first + np.mean(moves, axis=0), rtol=1e-6)
    np.testing.assert_allclose(centred_clip(updates, vector(9, 9), 1e9, 1), np.mean(updates, axis=0), rtol=1e-6)


@pytest.mark.parametrize("name", ["median", "trimmed", "krum", "centred"])
def test_two_liars_of_nine_cannot_move_it_far_and_can_move_the_mean_anywhere(name: str) -> None:
    draw = np.random.Generator(np.random.Philox(7))
    honest = [draw.normal(1, 0.1, 50).astype(np.float32) for _ in range(7)]
    lies = [np.full(50, -1e6, np.float32)] * 2
    together = honest + lies
    found = {
        "median": lambda: median(together),
        "trimmed": lambda: trimmed_mean(together, 0.25),
        "krum": lambda: together[krum(together, 2, 1)[0]],
        "centred": lambda: centred_clip(together, np.ones(50, np.float32), 1.0, 3),
    }[name]()
    assert norm(found - np.mean(honest, axis=0, dtype=np.float32)) < 3
    assert norm(np.mean(together, axis=0, dtype=np.float32) - 1) > 1e5


def test_the_largest_are_kept_and_of_equal_ones_the_first() -> None:
    np.testing.assert_array_equal(largest(vector(1, -5, 0, 5, 2), 0.4), [1, 3])
    np.testing.assert_array_equal(largest(vector(1, -1, 1), 0.01), [0])
    np.testing.assert_array_equal(only(vector(1, -5, 0, 5), np.array([1, 3], np.uint32)), vector(0, -5, 0, 5))


def test_a_common_support_is_the_same_for_all_and_changes() -> None:
    np.testing.assert_array_equal(common(100, 0.1, 3), common(100, 0.1, 3))
    assert len(set(common(100, 0.1, 3).tolist())) == 10
    assert common(100, 0.1, 3).tolist() != common(100, 0.1, 4).tolist()


def test_error_feedback_sends_everything_in_the_end() -> None:
    """Stich et al.: what was sent and what is left are always all that there was."""
    draw = np.random.Generator(np.random.Philox(1))
    left, sent, total = np.zeros(30), np.zeros(30), np.zeros(30)
    for _ in range(40):
        update = draw.normal(size=30).astype(np.float32)
        whole = (update + left).astype(np.float32)
        out = only(whole, largest(whole, 0.1))
        left, sent, total = whole - out, sent + out, total + update
    np.testing.assert_allclose(sent + left, total, atol=1e-4)
    assert np.abs(left).max() < 30  # it does not pile up


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_quantised_numbers_are_right_on_average_and_near(bits: int) -> None:
    values_P = np.linspace(-1, 3, 41, dtype=np.float32)
    made = [quantise(values_P, bits, seed) for seed in range(2000)]
    step = made[0][1]
    assert step == pytest.approx(3 / (2 ** (bits - 1) - 1), rel=1e-6)
    several = np.stack([codes.astype(np.float32) * scale for codes, scale in made])
    assert np.abs(several - values_P).max() <= step * 1.001
    assert np.abs(several.mean(axis=0) - values_P).max() < 5 * step / np.sqrt(2000)  # five standard errors at most
    assert max(np.abs(codes).max() for codes, _ in made) == 2 ** (bits - 1) - 1


def test_quantising_zeros() -> None:
    codes, scale = quantise(vector(0, 0), 8, 1)
    assert codes.tolist() == [0, 0]
    assert scale > 0


def test_no_subset_of_the_trimmed_decides_alone() -> None:
    """Whichever one of five says a million, the trimmed mean stays among the others."""
    for place in range(5):
        updates = [vector(x) for x in range(5)]
        updates[place] = vector(1e6)
        rest = [i for i in range(5) if i != place]
        assert min(rest) <= trimmed_mean(updates, 0.2)[0] <= max(rest)
