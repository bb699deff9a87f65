"""Modelled energy, in whole millijoules: what computing, the radio and waiting cost.

The constants are those of EAFL (arXiv 2208.04505): the radio takes a + b x hours percent of a pack of 1,230 mAh at 5 V
(22,140 J), by the regressions of Kalic et al. (MIPRO 2012). Everything here is a model; no number is a measurement of ours.
EAFL's own code is followed except for its slips: the radio of a device decides between Wi-Fi and 3G (there: more than 13.8
*hours*), a is charged only where something was sent, each class has one power, and the idle drain is not overwritten.
Its factor 3 on everything, a knob to empty batteries sooner, is left out.

Give totals, not parts: a is charged for each session, and each call rounds to the nearest millijoule.
"""

from __future__ import annotations

import msgspec

from kuberml.core.errors import ConfigError, InternalError, nearest
from kuberml.core.units import NS
from kuberml.worlds.simulated.devices import Device


class Radio(msgspec.Struct, frozen=True):
    """What a radio takes: microwatts while it sends or receives, and millijoules for each session."""

    active_uw: int
    session_mj: int


_WIFI = Radio(active_uw=1_209_090, session_mj=315_495)  # 19.66 % an hour, 1.425 %
_3G = Radio(active_uw=2_207_850, session_mj=349_812)  # 35.9 % an hour, 1.58 %
RADIOS = {"wired": Radio(0, 0), "wifi": _WIFI, "3g": _3G, "lte": _3G, "5g": _3G}
"""LTE and 5G have no constants in the source: the 3G line is the nearest (assumed)."""


def compute_mj(device: Device, busy_ns: int) -> int:
    """Energy of computing for busy_ns, above idle."""
    return _rounded(device.watts_compute_mw * _time(busy_ns), NS)


def idle_mj(device: Device, elapsed_ns: int) -> int:
    """Energy of being switched on for elapsed_ns, busy or not."""
    return _rounded(device.watts_idle_mw * _time(elapsed_ns), NS)


def radio_mj(radio: str, busy_ns: int, *, sessions: int = 1) -> int:
    """Energy of sending and receiving for busy_ns in so many sessions; nothing if busy_ns is 0.

    A session is one stretch of communication as the regressions saw it: minutes, not a message. EAFL counts one a round.

    Raises:
        ConfigError: unknown radio; the message names the nearest.
    """
    if radio not in RADIOS:
        raise ConfigError(f"unknown radio {radio!r}; {nearest(radio, RADIOS)}")
    if _time(busy_ns) == 0:
        return 0
    return _rounded(RADIOS[radio].active_uw * busy_ns, 1000 * NS) + RADIOS[radio].session_mj * sessions


def spent_mj(device: Device, *, compute_ns: int, radio_ns: int, elapsed_ns: int, sessions: int = 1) -> int:
    """Everything that a device has spent after elapsed_ns, of which it computed compute_ns and was on the air radio_ns."""
    radio = radio_mj(device.radio, radio_ns, sessions=sessions)
    return compute_mj(device, compute_ns) + radio + idle_mj(device, elapsed_ns)


def charge_mj(device: Device, *, compute_ns: int, radio_ns: int, elapsed_ns: int, sessions: int = 1) -> int | None:
    """What is left in the battery; 0: it is dead. None: on mains."""
    if device.battery_mj is None:
        return None
    spent = spent_mj(device, compute_ns=compute_ns, radio_ns=radio_ns, elapsed_ns=elapsed_ns, sessions=sessions)
    return max(0, device.battery_mj - spent)


def empty_at_ns(device: Device, *, compute_ns: int, radio_ns: int, sessions: int = 1) -> int | None:
    """The first elapsed time with charge_mj 0 if the device stays idle from now on; 0 if work alone empties it.

    None: never (on mains, or it takes nothing while idle). When it works, ask again: it dies sooner.
    """
    charge = charge_mj(device, compute_ns=compute_ns, radio_ns=radio_ns, elapsed_ns=0, sessions=sessions)
    if charge is None or (charge and not device.watts_idle_mw):
        return None
    return max(0, -(-(2 * charge - 1) * NS // (2 * device.watts_idle_mw))) if charge else 0


def _rounded(amount: int, unit: int) -> int:
    return (2 * amount + unit) // (2 * unit)


def _time(amount: int) -> int:
    if amount < 0:
        raise InternalError(f"a duration or size cannot be negative: {amount}")
    return amount
