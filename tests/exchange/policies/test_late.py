"""What late updates weigh, by hand."""

import numpy as np
import pytest

from kuberml.core.errors import ConfigError
from kuberml.exchange.policies.late import Change, together, weigh
from kuberml.exchange.policies.options import Late, Offload
from kuberml.exchange.policies.table import check
from kuberml.exchange.steps.options import Steps

FRESH = [
    Change({"state": np.array([2.0, 0.0], np.float32)}, 3.0, 0),
    Change({"state": np.array([0.0, 0.0], np.float32)}, 1.0, 0),
]
ALIKE = Change({"state": np.array([1.0, 0.0], np.float32)}, 1.0, 1)
UNLIKE = Change({"state": np.array([1.0, 3.0], np.float32)}, 2.0, 2)


def test_a_late_update_weighs_less_with_age_and_more_if_it_differs() -> None:
    """u_F = (1, 0), n = 2. Alike: L = 0. Unlike: (1, 0) - (3, 3) / 3 = (0, -1), so L = 1, the greatest."""
    found = weigh([*FRESH, ALIKE, UNLIKE], Late(rounds=2, beta=0.35, scale=1.0))
    assert found == pytest.approx([1, 1, 0.65 / 2, 0.65 / 3 + 0.35 * (1 - np.exp(-1))])
    coded = weigh([*FRESH, ALIKE, UNLIKE], Late(rounds=2))
    assert coded == pytest.approx([1, 1, 0.65 / 2 + 0.35 * 0.9, 0.65 / 3 + 0.35 * (1 - np.exp(-1) / 10)])


def test_the_mean_is_of_changes_each_from_what_it_began_with() -> None:
    sent, late = {"state": np.array([10.0, 20.0], np.float32)}, Late(rounds=2, beta=0.35, scale=1.0)
    factors = [1, 1, 0.65 / 2, 0.65 / 3 + 0.35 * (1 - np.exp(-1))]
    weights = np.array([3.0, 1.0, 1.0, 2.0]) * factors
    mean = weights @ np.array([[2, 0], [0, 0], [1, 0], [1, 3]]) / weights.sum()
    np.testing.assert_allclose(together([*FRESH, ALIKE, UNLIKE], sent, late)["state"], sent["state"] + mean, rtol=1e-6)
    np.testing.assert_array_equal(together([], sent, late)["state"], sent["state"])


def test_without_fresh_ones_or_with_beta_1_nothing_divides_by_nought() -> None:
    assert weigh([ALIKE], Late(rounds=1, beta=0.5, scale=1.0)) == pytest.approx([0.25])
    favoured = Late(rounds=1, beta=1.0, scale=1.0)
    assert weigh([*FRESH, ALIKE], favoured) == [1, 1, 0]
    np.testing.assert_allclose(together([*FRESH, ALIKE], {"state": np.zeros(2, np.float32)}, favoured)["state"], [1.5, 0])


@pytest.mark.parametrize(("collects", "steps"), [("stream", ()), ("each", ()), ("own", ()), ("sum", ("median",))])
def test_where_late_updates_cannot_count(collects: str, steps: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"late\.rounds = 1 cannot go with"):
        check("uniform", Late(rounds=1), Offload(), Steps(names=steps), collects, offloads=False)  # type: ignore[arg-type]
    check("uniform", Late(rounds=1), Offload(), Steps(), "sum", offloads=False)
