"""Noise and its account against closed forms."""

import math

import numpy as np
import pytest

from kuberml.learning.steps.privacy import noised, promise
from kuberml.learning.steps.secrets import normal, words

pytest.importorskip("dp_accounting", reason="the extra privacy is not installed")


def closed_form(noise: float, delta: float, releases: int) -> float:
    """Of Gaussian noise: Renyi epsilon(a) = a T / (2 s^2), turned into (epsilon, delta) by Canonne et al. (2020)."""
    return min(
        a * releases / (2 * noise**2) + math.log1p(-1 / a) - math.log(delta * a) / (a - 1) for a in np.linspace(1.01, 60, 6000)
    )


def exact_delta(noise: float, epsilon: float) -> float:
    """Of one Gaussian release: Balle and Wang, ICML 2018, theorem 8."""

    def phi(x: float) -> float:
        return (1 + math.erf(x / math.sqrt(2))) / 2

    return phi(1 / (2 * noise) - epsilon * noise) - math.exp(epsilon) * phi(-1 / (2 * noise) - epsilon * noise)


@pytest.mark.parametrize(("noise", "releases"), [(1.0, 1), (1.0, 10), (4.0, 100), (0.7, 3)])
def test_the_accountant_agrees_with_the_closed_form_and_promises_too_little_rather_than_too_much(
    noise: float, releases: int
) -> None:
    made = promise(noise, 1e-5, releases)
    assert made.neighbours == "zeroed-out"
    assert made.epsilon == pytest.approx(closed_form(noise, 1e-5, releases), rel=0.02)
    assert exact_delta(noise / math.sqrt(releases), made.epsilon) <= 1e-5


def test_who_is_drawn_by_a_coin_is_promised_more() -> None:
    everybody = promise(1.0, 1e-5, 50).epsilon
    coin = promise(1.0, 1e-5, 50, sampling="poisson", share=0.1)
    assert coin.epsilon < everybody / 3
    assert promise(1.0, 1e-5, 50, sampling="poisson", share=1.0).epsilon == everybody


def test_a_fixed_number_drawn_is_accounted_with_who_is_replaced() -> None:
    """All drawn is nobody drawn: and one replaced by another moves a sum twice as far as one zeroed."""
    drawn = promise(4.0, 1e-5, 50, sampling="uniform", of=1000, drawn=10)
    assert drawn.neighbours == "replaced"
    assert drawn.epsilon < promise(2.0, 1e-5, 50).epsilon
    assert promise(4.0, 1e-5, 50, sampling="uniform", of=10, drawn=10) == promise(4.0, 1e-5, 50)


def test_nothing_given_away_costs_nothing_and_more_costs_more() -> None:
    assert promise(1.0, 1e-5, 0).epsilon == 0
    assert promise(1.0, 1e-5, 1).epsilon < promise(1.0, 1e-5, 2).epsilon
    assert promise(2.0, 1e-5, 1).epsilon < promise(1.0, 1e-5, 1).epsilon


def test_the_noise_has_the_law_and_the_size_that_it_says() -> None:
    count = 200_000
    drawn = noised(np.full(count, 5, np.float32), 3.0, b"secret").astype(np.float64)
    assert drawn.mean() == pytest.approx(5, abs=5 * 3 / math.sqrt(count))
    assert drawn.std() == pytest.approx(3, rel=5 / math.sqrt(2 * count))
    tail = np.mean(np.abs(drawn - 5) > 2 * 3)
    assert tail == pytest.approx(math.erfc(2 / math.sqrt(2)), rel=0.1)


def test_a_secret_is_its_stream_and_no_other() -> None:
    np.testing.assert_array_equal(normal(b"a", 7), normal(b"a", 7))
    assert abs(np.corrcoef(normal(b"a", 5000), normal(b"b", 5000))[0, 1]) < 0.08
    np.testing.assert_array_equal(words(b"a", 9)[:5], words(b"a", 5))
    assert len(normal(b"a", 7)) == 7
