from __future__ import annotations

import numpy as np
import pytest

from kuberml.core.errors import ConfigError
from kuberml.learning.datasets import DATASETS, Dataset, Part, samples
from kuberml.learning.types import DataRef


def _ref(*indices: int, **changes: object) -> DataRef:
    return DataRef("digits", "train", np.array(indices, np.int32), **changes)  # type: ignore[arg-type]


def test_digits_splits_are_balanced_and_disjoint() -> None:
    digits = DATASETS.get("digits")
    parts = {split: digits.split(split) for split in digits.splits}

    assert {split: len(part) for split, part in parts.items()} == {"train": 1097, "test": 500, "public": 200}
    assert np.bincount(parts["test"].y_N).tolist() == [50] * 10
    assert np.bincount(parts["public"].y_N).tolist() == [20] * 10
    images = np.concatenate([part.x_N.reshape(len(part), -1) for part in parts.values()])
    assert len(np.unique(images, axis=0)) == 1797


def test_digits_are_scikit_learns_digits() -> None:
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    theirs = sklearn_datasets.load_digits()
    ours = np.concatenate([DATASETS.get("digits").split(split).x_N for split in ("train", "test", "public")])

    assert np.array_equal(np.unique(ours[..., 0] * 16, axis=0), np.unique(theirs.images, axis=0))


def test_samples_are_float32_in_0_to_1_with_names() -> None:
    some = samples(_ref(0, 5, 7))

    assert some.x_N.shape == (3, 8, 8, 1)
    assert some.x_N.dtype == np.float32
    assert some.y_N.dtype == np.int64
    assert some.x_N.min() >= 0
    assert some.x_N.max() <= 1
    assert some.labels == tuple("0123456789")


def test_samples_follow_the_order_of_the_reference_and_may_repeat() -> None:
    assert np.array_equal(samples(_ref(7, 0, 7)).x_N, samples(_ref(0, 7)).x_N[[1, 0, 1]])


def test_samples_are_read_only_and_remembered() -> None:
    some = samples(_ref(1, 2))

    assert samples(_ref(1, 2)) is some
    with pytest.raises(ValueError, match="read-only"):
        some.x_N[0] = 0


def test_inverted_view_is_one_minus_x() -> None:
    assert np.array_equal(samples(_ref(3, view="inverted")).x_N, 1 - samples(_ref(3)).x_N)


def test_relabel_calls_labels_by_other_names() -> None:
    honest = samples(DATASETS.get("digits").ref("test")).y_N
    lied = samples(DataRef("digits", "test", np.arange(500, dtype=np.int32), relabel={"3": "8", "8": "3"})).y_N

    assert np.array_equal(lied == 8, honest == 3)
    assert np.array_equal(lied == 3, honest == 8)
    assert np.array_equal(lied == 5, honest == 5)


def test_no_samples_is_a_valid_reference() -> None:
    assert samples(_ref()).x_N.shape == (0, 8, 8, 1)


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        (_ref(1097), r"0\.\.1096"),
        (_ref(-1), r"0\.\.1096"),
        (_ref(0, view="inverse"), "did you mean 'inverted'"),
        (_ref(0, relabel={"ten": "1"}), "no label 'ten'"),
        (DataRef("digit", "train", np.zeros(1, np.int32)), "did you mean 'digits'"),
        (DataRef("digits", "tests", np.zeros(1, np.int32)), "did you mean 'test'"),
    ],
)
def test_wrong_references_say_what_is_wrong(ref: DataRef, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        samples(ref)


def test_vectors_cannot_be_inverted_and_need_groups_for_owners() -> None:
    made = Dataset("made", ("a",), (2,), lambda _: Part(np.zeros((1, 2), np.float32), np.zeros(1, int)), "made for a test")
    DATASETS.add("made", lambda: made)

    with pytest.raises(ConfigError, match="vectors"):
        samples(DataRef("made", "train", np.zeros(1, np.int32), view="inverted"))
    with pytest.raises(ConfigError, match="no natural groups"):
        made.owners("train")
