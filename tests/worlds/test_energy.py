"""The energy model against numbers worked out by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core.errors import ConfigError, InternalError
from kuberml.core.rng import rng
from kuberml.worlds.simulated.devices import Device, device
from kuberml.worlds.simulated.energy import RADIOS, charge_mj, compute_mj, empty_at_ns, idle_mj, radio_mj, spent_mj

HOUR = 3600 * 10**9
PHONE = Device("m", 10**9, watts_compute_mw=5440, watts_idle_mw=800, battery_mj=28_800_000, radio="wifi")


def test_an_hour_of_computing():
    assert compute_mj(PHONE, HOUR) == 5440 * 3600  # 5.44 W x 3,600 s


@pytest.mark.parametrize(
    ("radio", "joules"),
    [
        ("wifi", 4668.219),  # (19.66 + 1.425) % of 1.230 Ah x 5 V x 3,600 s = 22,140 J
        ("3g", 8298.072),  # (35.9 + 1.58) % of 22,140 J
        ("lte", 8298.072),
        ("5g", 8298.072),
        ("wired", 0),
    ],
)
def test_an_hour_on_the_air(radio, joules):
    assert radio_mj(radio, HOUR) == joules * 1000


def test_the_fixed_part_needs_communication():
    assert radio_mj("wifi", 0) == radio_mj("3g", 0, sessions=5) == 0
    assert radio_mj("wifi", 1) == 315_495
    assert radio_mj("wifi", HOUR, sessions=3) - radio_mj("wifi", HOUR) == 2 * 315_495
    assert radio_mj("wifi", HOUR, sessions=0) == 4_352_724


def test_the_radio_decides_and_not_the_hours():
    long = 20 * HOUR  # beyond the 13.8 hours at which the original switches to 3G
    assert radio_mj("wifi", long, sessions=0) == 20 * radio_mj("wifi", HOUR, sessions=0)


def test_everything_together_and_what_is_left():
    busy = {"compute_ns": HOUR // 2, "radio_ns": HOUR // 10, "elapsed_ns": HOUR}
    by_hand = 9_792_000 + 435_272 + 315_495 + 2_880_000  # 5.44 W x 1,800 s; 1.20909 W x 360 s; a; 0.8 W x 3,600 s
    assert spent_mj(PHONE, **busy) == by_hand
    assert charge_mj(PHONE, **busy) == 28_800_000 - by_hand
    assert charge_mj(PHONE, compute_ns=2 * HOUR, radio_ns=0, elapsed_ns=2 * HOUR) == 0
    assert charge_mj(Device("server", 1), **busy) is None


def test_an_idle_phone_lasts_ten_hours():
    drawn = device("phones", rng(0))
    assert empty_at_ns(drawn, compute_ns=0, radio_ns=0) == pytest.approx(10 * HOUR, rel=0.001)


def test_who_never_dies_and_who_is_dead():
    assert empty_at_ns(Device("server", 1, watts_idle_mw=5), compute_ns=HOUR, radio_ns=HOUR) is None
    assert empty_at_ns(Device("off", 1, battery_mj=5), compute_ns=0, radio_ns=0) is None
    assert empty_at_ns(PHONE, compute_ns=2 * HOUR, radio_ns=0) == 0


@settings(max_examples=60, derandomize=True)
@given(st.integers(0, 2 * HOUR), st.integers(0, HOUR), st.integers(1, 5000), st.integers(1, 10**7))
def test_empty_is_the_first_moment_without_charge(compute_ns, radio_ns, idle_mw, battery_mj):
    phone = Device("x", 1, watts_compute_mw=3, watts_idle_mw=idle_mw, battery_mj=battery_mj, radio="3g")
    busy = {"compute_ns": compute_ns, "radio_ns": radio_ns}
    at = empty_at_ns(phone, **busy)
    assert charge_mj(phone, **busy, elapsed_ns=at) == 0
    assert at == 0 or charge_mj(phone, **busy, elapsed_ns=at - 1) > 0


@settings(max_examples=30, derandomize=True)
@given(st.sampled_from(sorted(RADIOS)), st.integers(0, HOUR), st.integers(0, HOUR))
def test_more_work_never_costs_less(radio, ns, more_ns):
    assert radio_mj(radio, ns + more_ns) >= radio_mj(radio, ns)
    assert compute_mj(PHONE, ns + more_ns) >= compute_mj(PHONE, ns)
    assert abs(idle_mj(PHONE, ns) + idle_mj(PHONE, more_ns) - idle_mj(PHONE, ns + more_ns)) <= 1


def test_bad_input_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'wifi'"):
        radio_mj("wfi", 1)
    with pytest.raises(InternalError, match="negative"):
        compute_mj(PHONE, -1)
