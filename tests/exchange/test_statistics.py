from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuberml.exchange.statistics import binomial_tail, recall_at_least, sign_test, spent


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
def test_the_lower_bound_is_where_the_tail_is_alpha(count: int, data: st.DataObject, alpha: float) -> None:
    correct = data.draw(st.integers(1, count))
    bound = recall_at_least(correct, count, alpha)
    assert binomial_tail(correct, count, bound) == pytest.approx(alpha, rel=1e-6)
    assert bound < correct / count


def test_all_right_has_the_known_bound() -> None:
    assert recall_at_least(20, 20, 0.05) == pytest.approx(0.05 ** (1 / 20), abs=1e-9)
    assert recall_at_least(0, 20, 0.05) == 0.0


def test_the_error_budget_is_never_overspent() -> None:
    assert sum(spent(0.1, k) for k in range(1, 10_000)) < 0.1
