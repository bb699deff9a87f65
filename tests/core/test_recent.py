"""What was computed last is kept, up to a number of bytes; features of samples that nobody can change are."""

from collections.abc import Callable

import numpy as np

from kuberml.core.recent import Recent
from kuberml.learning.datasets import samples
from kuberml.learning.extractors import features, random_convolutions
from kuberml.learning.types import DataRef


def test_the_least_recently_used_is_dropped_first() -> None:
    made: list[str] = []

    def make(name: str) -> Callable[[], bytes]:
        return lambda: made.append(name) or bytes(4)  # type: ignore[func-returns-value]

    recent = Recent[bytes](8, len)
    for name in ("a", "b", "a", "c", "a", "b"):
        assert len(recent.get(name, make(name))) == 4
    assert made == ["a", "b", "c", "b"]


def test_what_is_larger_than_all_is_not_kept() -> None:
    recent, made = Recent[bytes](8, len), []
    for _ in range(2):
        recent.get("a", lambda: made.append(1) or bytes(9))  # type: ignore[func-returns-value]
    assert len(made) == 2


def test_features_of_read_only_samples_are_remembered_by_content_and_cannot_be_changed() -> None:
    extractor = random_convolutions(channels=1, filters=4, patch=3, grid=1, seed=1)
    own = samples(DataRef("digits", "train", np.arange(20)))
    once, again = features(extractor, own.x_N), features(extractor, own.x_N)
    assert again is once
    assert not once.flags.writeable
    fresh = features(extractor, own.x_N.copy())
    assert fresh is not once
    np.testing.assert_array_equal(fresh, once)
    other = features(random_convolutions(channels=1, filters=4, patch=3, grid=1, seed=2), own.x_N)
    assert np.any(other != once)
