"""An attacker who reads packages tries to reconstruct a sample: that works without the minimum count, not with it."""

import numpy as np
import pytest

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.rng import rng
from kuberml.knowledge.contributions import Contributions, Plan, Refused, apply, contributions_of, plan
from kuberml.knowledge.kinds.statistics import Statistics, StatisticsKind, describe, remove
from kuberml.knowledge.pack import make, open_value

from .packets import BASIS, keys

DIMS = 64
OPEN, DEFAULT = StatisticsKind(min_class_count=1), StatisticsKind()
draw = rng(11, "victims")
CLASS_MEAN_d = draw.normal(size=DIMS)
HEALTHY_Nd = draw.normal(size=(60, DIMS))
SICK_Nd = CLASS_MEAN_d + 2 * draw.normal(size=(40, DIMS))
VICTIM_d = SICK_Nd[-1]
"""The last patient to arrive: what the attacker is after."""

RECONSTRUCTED, HIDDEN = 0.99, 0.75
"""Correlations. What all patients of the class share may be known; what is the victim's own may not."""


def describe_patients(sick: int, minimum: int, published: dict[str, int] | None = None) -> Statistics:
    """Statistics of all the healthy and of the first `sick` of the sick; the victim is the 40th."""
    z_Nd = np.concatenate([HEALTHY_Nd, SICK_Nd[:sick]])
    labels = ["healthy"] * len(HEALTHY_Nd) + ["sick"] * sick
    return describe(z_Nd, labels, basis=BASIS, min_class_count=minimum, published=published)[0]


def correlation(guess_d: np.ndarray) -> float:
    """How much of the victim a guess shows."""
    return float(abs(np.corrcoef(guess_d, VICTIM_d)[0, 1]))


def guesses(stats: Statistics) -> list[np.ndarray]:
    """What an attacker reads off a packet: each class mean, and the leading directions of the scatter within the classes."""
    sums_dC = stats.sums_dC[1:] / stats.sums_unit
    scatter_dd = stats.gram_dd[1:, 1:] / stats.gram_unit - (sums_dC / stats.counts_C) @ sums_dC.T
    return [*(sums_dC / stats.counts_C).T, *np.linalg.eigh(scatter_dd)[1].T[-3:]]


def publish(stats: Statistics, version: int, kind: StatisticsKind):
    return make("statistics", stats, keys=keys(1), task="t", slot="s", version=version, learned_at_ms=0, using=kind)


def alone(minimum: int) -> Statistics:
    """A hospital whose only sick patient is the victim."""
    z_Nd = np.concatenate([HEALTHY_Nd, VICTIM_d[None]])
    return describe(z_Nd, ["healthy"] * 60 + ["sick"], basis=BASIS, min_class_count=minimum)[0]


def test_a_class_of_one_is_that_sample_without_the_limit() -> None:
    opened = open_value(publish(alone(1), 1, OPEN), using=OPEN)
    assert max(map(correlation, guesses(opened))) > RECONSTRUCTED


def test_at_the_default_a_class_of_one_is_withheld_not_packed_and_not_opened() -> None:
    assert alone(5).labels == ("healthy",)
    assert max(map(correlation, guesses(alone(5)))) < HIDDEN
    with pytest.raises(ConfigError, match="1 samples"):
        publish(alone(1), 1, DEFAULT)
    with pytest.raises(RemoteError, match="1 samples"):
        open_value(publish(alone(1), 1, OPEN), using=DEFAULT)


def test_two_versions_show_the_sample_between_them_without_the_limit() -> None:
    first, second = describe_patients(39, 1), describe_patients(40, 1)
    difference = remove(second, first)
    assert difference.counts == {"sick": 1}
    assert max(map(correlation, guesses(difference))) > RECONSTRUCTED


def test_at_the_default_a_new_sample_waits_for_four_more() -> None:
    first = describe_patients(35, 5)
    for sick in (36, 37, 38, 39):
        assert describe_patients(sick, 5, first.counts).digest == first.digest
    second = describe_patients(40, 5, first.counts)
    difference = remove(second, first)
    assert difference.counts == {"sick": 5}
    assert max(map(correlation, guesses(difference))) < HIDDEN


def test_at_the_default_a_receiver_refuses_versions_that_show_a_sample() -> None:
    first, second = (publish(describe_patients(sick, 1), version, OPEN) for version, sick in ((1, 39), (2, 40)))
    content = contributions_of(first)[0].content
    held = {content: frozenset({content})}
    taken = plan(Contributions(), contributions_of(first), {})
    assert isinstance(taken, Plan)
    for step in (
        plan(taken.after, contributions_of(second), held),  # one more
        plan(Contributions(contributions_of(second)), contributions_of(taken_back(first)), held),  # one fewer
    ):
        assert isinstance(step, Refused)
        assert "sick" in step.reason
    assert isinstance(plan(taken.after, contributions_of(second), held, min_class_count=1), Plan)


def taken_back(knowledge):
    """The same content as version 3: the author takes the newest patient back."""
    return publish(open_value(knowledge, using=OPEN), 3, OPEN)


def test_at_the_default_a_receiver_refuses_a_swapped_sample() -> None:
    z_Nd = SICK_Nd[:20].copy()
    before, _ = describe(z_Nd, ["sick"] * 20, basis=BASIS)
    z_Nd[0] = VICTIM_d
    after, _ = describe(z_Nd, ["sick"] * 20, basis=BASIS)
    packages = [publish(before, 1, DEFAULT), publish(after, 2, DEFAULT)]
    have = Contributions(contributions_of(packages[0]))
    step = plan(have, contributions_of(packages[1]), {})
    assert isinstance(step, Plan)
    with pytest.raises(RemoteError, match="as many samples as before, but others"):
        apply(step, before, after, {}.__getitem__)
