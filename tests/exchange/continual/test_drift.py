"""Drift from packets alone: seen where features moved, and not where they did not, at the stated rate of false alarms."""

from __future__ import annotations

import numpy as np
import pytest

from kuberml.core.ids import digest_of
from kuberml.core.rng import rng
from kuberml.exchange.continual.drift import moved
from kuberml.knowledge.algebra import merge_all
from kuberml.knowledge.kinds.statistics import Statistics, describe
from tests.exchange.continual.edges import packets

BASIS = digest_of(b"made up")
ALARM = 0.001


def drawn(seed: int, *, samples: int, d: int = 40, shift: float = 0.0, labels: str = "abc", skew: float = 0.0) -> Statistics:
    """Correlated features of unequal spread around a mean for each label; `shift` moves all means along one direction."""
    stream = rng(seed, "drift")
    fixed = rng(0, "drift", "classes")
    mixing_dd = fixed.normal(size=(d, d)) / np.sqrt(d) * np.exp(-np.arange(d) / 8)
    means_Cd = fixed.normal(size=(3, d))
    y_N = np.arange(samples) % len(labels)
    noise_Nd = stream.normal(size=(samples, d))
    if skew:
        noise_Nd = stream.exponential(size=(samples, d)) - 1
    moved_d = np.zeros(d)
    moved_d[0] = shift
    z_Nd = means_Cd[y_N] + noise_Nd @ mixing_dd + moved_d
    return describe(z_Nd.astype(np.float32), [labels[y] for y in y_N], basis=BASIS)[0]


@pytest.mark.parametrize(("samples", "d", "skew"), [(30, 40, 0.0), (30, 200, 0.0), (300, 40, 1.0)])
def test_false_alarms_come_as_often_as_is_said(samples: int, d: int, skew: float) -> None:
    """p-values of 400 packets without drift are spread about evenly, rather too high, and hardly one is far out in the tail."""
    model = merge_all([drawn(k, samples=150, d=d, skew=skew) for k in range(4)])
    found = np.array([moved(drawn(100 + k, samples=samples, d=d, skew=skew), model).p_value for k in range(400)])  # type: ignore[union-attr]
    assert 0.01 <= np.mean(found < 0.1) <= 0.15
    assert np.mean(found < 0.01) <= 0.03
    assert np.sum(found < ALARM) <= 4  # 0.4 are expected


def test_a_shift_is_seen_and_its_size_told() -> None:
    model = merge_all([drawn(k, samples=150) for k in range(4)])
    small, large = (moved(drawn(7, samples=60, shift=size), model) for size in (1.0, 3.0))
    assert small is not None
    assert large is not None
    assert small.p_value < ALARM
    assert large.p_value < small.p_value
    assert large.shift == pytest.approx(9 * small.shift, rel=0.3)


def test_one_class_that_moved_is_named() -> None:
    model = merge_all([drawn(k, samples=150) for k in range(4)])
    still, gone = drawn(8, samples=60, labels="ab"), drawn(9, samples=30, labels="c", shift=4.0)
    # the third label's samples lie around the first label's mean: another class under this name
    found = moved(merge_all([still, gone]), model)
    assert found is not None
    assert found.p_value < ALARM
    assert next(iter(found.labels)) == "c"


def test_digits_of_the_same_hand_do_not_drift_and_inverted_ones_do() -> None:
    one, two, three = packets("0123456789", "0123456789", "0123456789")
    found = moved(one, merge_all([two, three]))
    assert found is not None
    assert found.p_value > ALARM


def test_where_nothing_can_be_said_nothing_is_said() -> None:
    assert moved(drawn(1, samples=30, labels="a"), drawn(2, samples=30, labels="b")) is None
    assert moved(drawn(1, samples=5, labels="a"), drawn(2, samples=5, labels="a")) is not None
    assert moved(drawn(1, samples=30), drawn(2, samples=30, d=20)) is None


def test_labels_that_scatter_more_than_others_are_no_drift() -> None:
    """One label is three times as wide as the others, and packets hold one label each, as edges meet them."""

    def some(seed: int, label: str, samples: int) -> Statistics:
        z_Nd = rng(seed, "wide", samples).normal(size=(samples, 40)) * (3.0 if label == "a" else 1.0)
        return describe(z_Nd.astype(np.float32), [label] * samples, basis=BASIS)[0]

    model = merge_all([some(k, label, 100) for k, label in enumerate("abcd")])
    found = [moved(some(100 + k, "a", 25), model).p_value for k in range(200)]  # type: ignore[union-attr]
    assert sum(p < ALARM for p in found) <= 2
