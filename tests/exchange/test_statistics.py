from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuberml.exchange.statistics import binomial_tail, shows_failure, shows_recall, sign_test, spent


def test_the_tail_is_the_sum_of_the_masses() -> None:
    by_hand = sum(comb(10, k) * 0.3**k * 0.7 ** (10 - k) for k in range(4, 11))
    assert binomial_tail(4, 10, 0.3) == pytest.approx(by_hand, abs=1e-12)
    assert binomial_tail(0, 10, 0.3) == 1.0
    assert binomial_tail(11, 10, 0.3) == 0.0


def test_sign_test_by_hand() -> None:
    assert sign_test(3, 0) == 1 / 8
    assert sign_test(0, 3) == 1.0
    assert sign_test(0, 0) == 1.0
    assert sign_test(4, 1) == 6 / 32


@given(st.integers(1, 60), st.data(), st.sampled_from([0.01, 0.05, 0.2]))
def test_a_recall_is_shown_up_to_clopper_and_pearsons_bound(count: int, data: st.DataObject, alpha: float) -> None:
    """Their bound is a quantile of Beta(correct, count - correct + 1)."""
    beta = pytest.importorskip("scipy.stats", reason="scipy gives the quantile").beta
    correct = data.draw(st.integers(1, count))
    bound = float(beta.ppf(alpha, correct, count - correct + 1))
    assert shows_recall(correct, count, bound - 1e-9, alpha)
    assert not shows_recall(correct, count, bound + 1e-9, alpha)


def test_all_right_has_the_known_bound_and_nothing_right_shows_nothing() -> None:
    bound = 0.05 ** (1 / 20)
    assert shows_recall(20, 20, bound - 1e-9, 0.05)
    assert not shows_recall(20, 20, bound + 1e-9, 0.05)
    assert not shows_recall(0, 20, 1e-3, 0.05)
    assert not shows_recall(0, 0, 0.5, 0.05)
    assert shows_recall(0, 20, 0.0, 0.05)


def test_the_error_budget_is_never_overspent() -> None:
    assert sum(spent(0.1, k) for k in range(1, 10_000)) < 0.1


def test_a_failure_is_what_chance_does_not_explain() -> None:
    assert not shows_failure(0, 2, 0.5, 0.2), "a quarter of all honest pairs"
    assert shows_failure(0, 3, 0.5, 0.2)
    assert not shows_failure(3, 8, 0.5, 0.2)
    assert shows_failure(2, 8, 0.5, 0.2)
    assert shows_failure(7, 10, 0.71, 1.0), "without doubt, whatever is below"
    assert not shows_failure(7, 10, 0.7, 1.0)
    assert not shows_failure(0, 0, 0.5, 1.0)
