"""Draws of devices from the tables."""

import numpy as np
import pytest

from kuberml.core.errors import ConfigError
from kuberml.core.rng import rng
from kuberml.worlds.simulated.devices import PHONE_CLASSES, Device, device, device_tables, phone


@pytest.mark.parametrize("table", device_tables())
def test_a_draw_is_a_function_of_its_seed(table):
    drawn = [device(table, rng(5, table, k)) for k in range(8)]
    assert drawn == [device(table, rng(5, table, k)) for k in range(8)]
    assert all(each.flops_per_s >= 1 for each in drawn)
    if table != "charging-phones":
        assert all(each.radio == ("wired" if each.battery_mj is None else "wifi") for each in drawn)


def test_phones_spread_as_the_measured_ones():
    speeds = np.array([device("phones", rng(1, k)).flops_per_s for k in range(2000)])
    assert np.median(speeds) == pytest.approx(1.76e9, rel=0.1)
    slow, fast = np.percentile(speeds, [5, 95])
    assert 25 < fast / slow < 32  # the scores spread 17 times; the measured phones gain more than their score


def test_the_anchors_give_the_measured_batch_times():
    batch_flops = 1_032_714_240
    for quantile, flops_per_s, batch_s in [(0.27, 6.289e8, 1.642), (0.49, 1.756e9, 0.588), (0.88, 5.769e9, 0.179)]:
        assert phone(quantile, rng(0)).flops_per_s == pytest.approx(flops_per_s, rel=0.15)
        assert batch_flops / flops_per_s == pytest.approx(batch_s, rel=0.001)


def test_fast_phones_are_the_fastest_quarter():
    floor = phone(0.75, rng(0)).flops_per_s
    assert all(device("fast-phones", rng(2, k)).flops_per_s >= floor for k in range(50))


def test_phone_classes_follow_the_energy_model():
    high, middle, low = (phone(quantile, rng(4)) for quantile in (0.9, 0.5, 0.1))
    assert [each.watts_compute_mw for each in (high, middle, low)] == [6330, 5440, 2980]
    for each, kind in zip((high, middle, low), "HML", strict=True):
        first, last = (PHONE_CLASSES[kind].battery_mj(percent) for percent in PHONE_CLASSES[kind].charge_percent)
        assert first <= each.battery_mj <= last
        assert each.watts_idle_mw == each.battery_mj // 36_000
    assert PHONE_CLASSES["H"].battery_mj(100) == 90_000_000  # 5,000 mAh x 5 V = 25 Wh


def test_names_have_the_percentile():
    assert phone(0.0, rng(0)).name == "phone-p00"
    assert phone(0.999999, rng(0)).name == "phone-p99"


def test_mixed_and_servers_draw_every_class():
    assert {device("servers", rng(3, k)).name for k in range(40)} == {"hospital", "cloud"}
    names = [device("mixed", rng(3, k)).name for k in range(400)]
    assert 0.5 < np.mean([name.startswith("phone") for name in names]) < 0.7
    assert {"gateway", "hospital", "cloud"} < set(names)


def test_plain_devices_stay_as_simple_as_they_were():
    assert Device("x", 10).radio == "wired"
    assert Device("x", 10).battery_mj is None


@pytest.mark.parametrize("table", ["phone", "mixes", ""])
def test_unknown_tables_are_refused(table):
    with pytest.raises(ConfigError, match="unknown device table"):
        device(table, rng(0))


def test_charging_phones_are_the_phones_without_a_battery_that_runs_empty():
    for k in range(5):
        charging, other = device("charging-phones", rng(2, k)), device("phones", rng(2, k))
        assert charging.battery_mj is None
        assert other.battery_mj is not None
        assert charging.flops_per_s == other.flops_per_s
