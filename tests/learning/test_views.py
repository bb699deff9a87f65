"""Views are pure functions of one sample; a reference may run through several."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuberml.core.errors import ConfigError
from kuberml.learning.datasets import DATASETS, samples
from kuberml.learning.types import DataRef
from kuberml.learning.views import VIEWS, by_views, chosen, joined, viewed


def ref(indices, view="plain", relabel=None) -> DataRef:
    return DataRef("digits", "train", np.asarray(indices, np.int32), view, relabel or {})


@pytest.mark.parametrize("view", VIEWS)
def test_a_sample_looks_the_same_alone_and_among_others(view: str) -> None:
    x_N = np.random.default_rng(0).random((5, 7, 7, 3), np.float32)
    before = x_N.copy()
    seen = viewed(x_N, view, "made up")
    assert seen.shape == x_N.shape
    assert seen.dtype == np.float32
    assert np.array_equal(viewed(x_N[2:3], view, "made up")[0], seen[2])
    assert np.array_equal(x_N, before), "a data set's samples are not written into"
    assert 0 <= seen.min() <= seen.max() <= 1
    assert (view == "plain") == np.array_equal(seen, x_N)


def test_what_some_views_do() -> None:
    x_N = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1) / 8
    assert np.allclose(viewed(x_N, "dim", "made up"), 0.4 * x_N)
    assert np.allclose(viewed(x_N, "turned", "made up")[0, :, :, 0], np.rot90(x_N[0, :, :, 0]))
    point = np.zeros((1, 7, 7, 1), np.float32)
    point[0, 3, 3, 0] = 1
    blurred = viewed(point, "blurred", "made up")
    assert blurred.sum() == pytest.approx(1)
    assert blurred.max() == pytest.approx(1 / 9)
    assert np.count_nonzero(blurred) == 25


@pytest.mark.parametrize(
    ("view", "shape", "message"),
    [
        ("plane", (2, 4, 4, 1), "unknown view 'plane'; did you mean 'plain'"),
        ("dim", (2, 4), "view 'dim' is for images; 'made up' has vectors"),
        ("turned", (2, 4, 3, 1), "for square images"),
        ("plain*3", (2, 4, 4, 1), r"view 'plain\*3' is of 3 samples, and there are 2"),
        ("plain*", (2, 4, 4, 1), "write for instance"),
        ("plain*1,dim*x", (2, 4, 4, 1), "write for instance"),
    ],
)
def test_what_cannot_be_seen(view: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        viewed(np.zeros(shape, np.float32), view, "made up")


@given(st.lists(st.tuples(st.lists(st.integers(0, 1000), max_size=6), st.sampled_from(["plain", "dim", "grey"])), min_size=1))
def test_joined_references_are_the_same_samples(parts) -> None:
    refs = [ref(indices, view) for indices, view in parts]
    whole = joined(refs)
    assert len(whole) == sum(map(len, refs))
    pairs = sorted((int(i), one.view) for one in refs for i in one.indices_N)
    assert sorted((int(i), one.view) for one in by_views(whole) for i in one.indices_N) == pairs
    assert sum(map(len, by_views(whole))) == len(whole)
    assert np.array_equal(joined([whole]).indices_N, whole.indices_N)


def test_joined_samples_are_read_in_their_views() -> None:
    whole = joined([ref([5, 3], "inverted"), ref([1]), ref([2], "inverted")])
    assert whole.view == "inverted*3,plain*1"
    read = samples(whole)
    plain = samples(ref([2, 3, 5, 1]))
    assert np.allclose(read.x_N[:3], 1 - plain.x_N[:3])
    assert np.array_equal(read.x_N[3], plain.x_N[3])
    assert np.array_equal(read.y_N, plain.y_N)
    some = chosen(whole, [3, 0, 0])
    assert np.array_equal(samples(some).x_N, read.x_N[[0, 0, 3]])
    assert len(chosen(whole, [])) == 0


def test_what_cannot_be_joined() -> None:
    with pytest.raises(ConfigError, match="nothing to join"):
        joined([])
    with pytest.raises(ConfigError, match="cannot be joined: samples of one split, under one naming"):
        joined([ref([1]), ref([2], relabel={"1": "2"})])
    assert DATASETS.get("digits").labels[1] == "1"
