"""The measures of continual learning against their definitions, on matrices worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from kuberml.core.errors import ConfigError
from kuberml.learning.continual import measures

R = np.array([[0.9, 0.1, 0.0], [0.7, 0.8, 0.2], [0.8, 0.5, 0.6]])
ONE_A_STEP = np.arange(3)


def test_three_tasks_one_a_step() -> None:
    found = measures(R, ONE_A_STEP, np.array([0.9, 0.7, 0.7]), np.full(3, 0.1))
    assert found.accuracy == pytest.approx((0.8 + 0.5 + 0.6) / 3)
    assert found.backward_transfer == pytest.approx(((0.8 - 0.9) + (0.5 - 0.8)) / 2)
    assert found.forgetting == pytest.approx(((0.9 - 0.8) + (0.8 - 0.5)) / 2)
    assert found.forward_transfer == pytest.approx(((0.1 - 0.1) + (0.2 - 0.1)) / 2)
    assert found.gap_to_joint == pytest.approx((0.9 + 0.7 + 0.7) / 3 - (0.8 + 0.5 + 0.6) / 3)


def test_forgetting_counts_from_the_best_and_backward_transfer_from_the_first() -> None:
    rises_and_falls = np.array([[0.5, 0.0], [0.9, 0.0], [0.6, 0.7]])
    found = measures(rises_and_falls, np.array([0, 2]))
    assert found.backward_transfer == pytest.approx(0.1)
    assert found.forgetting == pytest.approx(0.3)


def test_what_is_still_to_come_does_not_count() -> None:
    found = measures(R[:2], ONE_A_STEP, np.array([0.7, 0.8, 0.0]))
    assert found.accuracy == pytest.approx(0.75)
    assert found.gap_to_joint == pytest.approx(0.0)


def test_several_tasks_in_one_step_and_one_alone_say_nothing_of_transfer() -> None:
    found = measures(R[:1], np.zeros(3, np.int64))
    assert found.accuracy == pytest.approx(1.0 / 3)
    assert (found.backward_transfer, found.forgetting, found.forward_transfer, found.gap_to_joint) == (None,) * 4
    assert measures(np.zeros((0, 2)), np.zeros(2, np.int64)).accuracy is None


@pytest.mark.parametrize(("accuracy", "arrived"), [(R, np.arange(2)), (R, np.array([-1, 0, 1])), (R + 1, ONE_A_STEP)])
def test_what_cannot_be_is_said(accuracy: np.ndarray, arrived: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(ConfigError):
        measures(accuracy, arrived)


def test_training_on_everything_at_once_forgets_by_these_measures_but_has_no_gap() -> None:
    """The trap: early tasks are scored against fewer classes, so BWT is negative without anything being lost."""
    joint = np.array([[1.0, 0.0], [0.7, 0.6]])
    found = measures(joint, np.arange(2), joint[-1])
    assert found.backward_transfer == pytest.approx(-0.3)
    assert found.gap_to_joint == 0.0
