import numpy as np
import pytest

from kuberml.core.errors import ConfigError
from kuberml.learning.datasets import samples
from kuberml.learning.private import hold_back, private_data

X = np.arange(24, dtype=np.float32).reshape(12, 2)
Y = np.array([0, 1] * 6)


def test_jobs_read_by_reference_what_was_given():
    x_N = X.copy()
    found = private_data(x_N, Y, ("a", "b"))
    x_N[:] = 0  # it was copied
    read = samples(found)
    assert (read.x_N.tolist(), read.y_N.tolist(), read.labels) == (X.tolist(), Y.tolist(), ("a", "b"))


def test_the_same_content_has_one_name_and_other_content_another():
    name = private_data(X, Y, ("a", "b")).dataset
    assert private_data(X.copy(), Y, ("a", "b")).dataset == name
    assert len({name, private_data(X + 1, Y, ("a", "b")).dataset, private_data(X, 1 - Y, ("a", "b")).dataset,
                private_data(X, Y, ("b", "a")).dataset}) == 4  # fmt: skip


def test_held_out_samples_are_a_share_of_each_label_and_never_train():
    every = private_data(X, Y, ("a", "b"))
    train, heldout = hold_back(every, Y, 1 / 3, seed=1)
    assert sorted([*train.indices_N, *heldout.indices_N]) == list(range(12))
    assert np.bincount(Y[heldout.indices_N]).tolist() == [2, 2]
    again = hold_back(every, Y, 1 / 3, seed=1)[1]
    assert again.indices_N.tolist() == heldout.indices_N.tolist()
    assert len(hold_back(every, np.arange(12), 0.25, seed=1)[1]) == 0  # a label with one sample trains


@pytest.mark.parametrize(
    ("x_N", "y_N"),
    [(X[:, 0], Y), (X, Y[:3]), (X[:0], Y[:0]), (X, Y + 1), (X, Y - 1), (X * np.float32("nan"), Y)],
)
def test_what_is_no_sample_set_is_refused(x_N, y_N):
    with pytest.raises(ConfigError):
        private_data(x_N, y_N, ("a", "b"))


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_is_between_none_and_all(share):
    with pytest.raises(ConfigError, match="heldout"):
        hold_back(private_data(X, Y, ("a", "b")), Y, share, seed=0)
