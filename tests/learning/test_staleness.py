"""The gradient of the control parameters against central differences, and what it leads to."""

from collections.abc import Callable

import numpy as np
import pytest

from kuberml.learning.sparsity import mean_of_holders
from kuberml.learning.staleness import Bounds, Control, adjusted, by_staleness, control_gradient, learned, pulls, scale_free

P, S = 7, 4
CONTROL = Control(lam=0.8, sigma=0.6, iota=0.15)


class Case:
    """A quadratic loss at the average of one's own model and four others', with or without masks, all in float64."""

    def __init__(self, seed: int, masked: bool) -> None:
        stream = np.random.default_rng(seed)
        half_PP = stream.normal(size=(P, P))
        self.curve_PP, self.best_P = half_PP @ half_PP.T, stream.normal(size=P)
        self.own_P, self.others_SP = stream.normal(size=P), stream.normal(size=(S, P))
        self.masks = [stream.random(P) < 0.6 if masked else None for _ in range(S)]
        self.own_mask = stream.random(P) < 0.6 if masked else None
        self.staleness_S, self.samples_S = np.array([0.0, 1.0, 3.0, 10.0]), np.array([20.0, 5.0, 40.0, 11.0])

    def average(self, control: Control) -> tuple[np.ndarray, np.ndarray]:
        weights_S = by_staleness(control, self.staleness_S, self.samples_S, 0.7)
        sum_P, total_P = np.zeros(P), np.zeros(P)
        for state_P, mask_P, weight in zip([self.own_P, *self.others_SP], [self.own_mask, *self.masks], [1.0, *weights_S],
                                           strict=True):  # fmt: skip
            share_P = weight * np.ones(P) if mask_P is None else weight * mask_P
            sum_P, total_P = sum_P + share_P * state_P, total_P + share_P
        return np.where(total_P > 0, sum_P / np.where(total_P > 0, total_P, 1), self.own_P), total_P

    def loss(self, control: Control) -> float:
        off_P = self.average(control)[0] - self.best_P
        return float(off_P @ self.curve_PP @ off_P / 2)

    def gradient(self, control: Control) -> tuple[float, float, float]:
        mean_P, total_P = self.average(control)
        slope_P = self.curve_PP @ (mean_P - self.best_P)
        pulls_S = pulls(slope_P, mean_P, total_P, list(zip(self.others_SP, self.masks, strict=True)))
        return control_gradient(control, self.staleness_S, self.samples_S, pulls_S, 0.7)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_the_gradient_is_that_of_central_differences(seed: int, masked: bool) -> None:
    case, step = Case(seed, masked), 1e-5
    moves: list[Callable[[float], Control]] = [
        lambda by: Control(CONTROL.lam + by, CONTROL.sigma, CONTROL.iota),
        lambda by: Control(CONTROL.lam, CONTROL.sigma + by, CONTROL.iota),
        lambda by: Control(CONTROL.lam, CONTROL.sigma, CONTROL.iota + by),
    ]
    differences = [(case.loss(move(step)) - case.loss(move(-step))) / (2 * step) for move in moves]
    np.testing.assert_allclose(case.gradient(CONTROL), differences, rtol=1e-6, atol=1e-8)


def test_the_average_of_the_gradient_s_case_is_the_one_that_nodes_take() -> None:
    case = Case(3, masked=True)
    weights_S = by_staleness(CONTROL, case.staleness_S, case.samples_S, 0.7)
    parts = [(s_P.astype(np.float32), m_P, float(w)) for s_P, m_P, w in zip(case.others_SP, case.masks, weights_S, strict=True)]
    own_P = case.own_P.astype(np.float32)
    mean_P, total_P = mean_of_holders([(own_P, case.own_mask, 1.0), *parts], own_P)
    np.testing.assert_allclose(mean_P, case.average(CONTROL)[0], atol=1e-6)
    np.testing.assert_allclose(total_P, case.average(CONTROL)[1])


def test_with_one_neighbour_it_is_fedasmu_s_alpha() -> None:
    (weight,) = by_staleness(CONTROL, np.array([3.0]), np.array([17.0]), 0.7)
    xi = 0.8 * 4**-0.6 + 0.15
    assert weight / (1 + weight) == pytest.approx(0.7 * xi / (1 + 0.7 * xi))


def test_a_fresh_model_counts_more_than_a_stale_one_and_with_sigma_0_as_much() -> None:
    ages_S, equal_S = np.array([0.0, 1.0, 5.0]), np.ones(3)
    assert (np.diff(by_staleness(CONTROL, ages_S, equal_S)) < 0).all()
    np.testing.assert_allclose(by_staleness(Control(1.0, 0.0, 0.0), ages_S, equal_S), 1.0)


def test_learning_lowers_the_loss_and_stays_in_bounds() -> None:
    case, control = Case(1, masked=False), CONTROL
    for _ in range(200):
        control = learned(control, case.gradient(control), 0.01, Bounds())
    assert case.loss(control) < case.loss(CONTROL)
    wild = learned(CONTROL, (1e9, -1e9, 1e9), 1.0, Bounds())
    assert wild == Control(0.0, Bounds().sigma_max, Bounds().iota_min)
    assert learned(CONTROL, (float("nan"), 0.0, 0.0), 1.0, Bounds()) == CONTROL


def test_a_step_does_not_depend_on_the_scale_of_model_and_loss() -> None:
    case = Case(2, masked=True)
    mean_P, total_P = case.average(CONTROL)
    slope_P, others = case.curve_PP @ (mean_P - case.best_P), list(zip(case.others_SP, case.masks, strict=True))
    far = [(1000 * (state_P - mean_P) + mean_P, mask_P) for state_P, mask_P in others]
    near_S = scale_free(pulls(slope_P, mean_P, total_P, others), slope_P, mean_P, others)
    np.testing.assert_allclose(near_S, scale_free(pulls(7 * slope_P, mean_P, total_P, far), 7 * slope_P, mean_P, far))
    same = [(mean_P, None)] * S
    unmoved = adjusted(CONTROL, case.staleness_S, case.samples_S, slope_P, mean_P, total_P, same, mu=1.0, lr=1.0)
    assert unmoved == CONTROL
