"""What a modelled device and its link can do, and seeded draws of devices from the shipped tables.

Device tables: "phones" (333 measured phones), "fast-phones" (their fastest quarter), "charging-phones" (all of them at the
mains, where federated learning runs on phones: Bonawitz et al., MLSys 2019), the single classes "gateway",
"hospital", "cloud", "gpu", and the mixes "servers" and "mixed". Sources, and what is assumed: docs/tables.md.
"""

from __future__ import annotations

import msgspec
import numpy as np

from kuberml.core.errors import ConfigError, nearest
from kuberml.worlds.simulated import tables

_PHONES = {"phones": 0.0, "fast-phones": 0.75, "charging-phones": 0.0}


class Device(msgspec.Struct, frozen=True):
    """A machine: how fast it computes and what that costs.

    Attributes:
        flops_per_s: sustained floating point operations a second in training, >= 1.
        watts_compute_mw: power above idle while it computes, milliwatts.
        watts_idle_mw: power while it waits, milliwatts.
        battery_mj: millijoules it can spend; None = on mains.
        region: where it stands; terms of knowledge may depend on it.
        radio: what its air time costs: "wired" (nothing), "wifi", "3g", "lte" or "5g"; see `energy.radio_mj`.
    """

    name: str
    flops_per_s: int
    watts_compute_mw: int = 0
    watts_idle_mw: int = 0
    battery_mj: int | None = None
    region: str = ""
    radio: str = "wired"


class LinkSpec(msgspec.Struct, frozen=True):
    """A node's access to the network. Bandwidths are bits a second, >= 1.

    Attributes:
        latency_ns: one way, from this node to the middle of the network, nanoseconds.
        loss_ppm: packets lost, parts per million; lost ones are sent again, so loss costs time, never content.
    """

    up_bps: int
    down_bps: int
    latency_ns: int
    loss_ppm: int = 0


class PhoneClass(msgspec.Struct, frozen=True):
    """A class of phones of the energy model EAFL: milliwatts while computing, its pack, and how full it is at first."""

    compute_mw: int
    battery_mah: int
    charge_percent: tuple[int, int]

    def battery_mj(self, percent: int) -> int:
        """Charge at `percent` of the pack, at EAFL's 5 V: 1 mAh x 5 V = 5 mW h = 18,000 mJ."""
        return self.battery_mah * 18_000 * percent // 100


PHONE_CLASSES = {
    "H": PhoneClass(6330, 5000, (10, 50)),
    "M": PhoneClass(5440, 4000, (20, 60)),
    "L": PhoneClass(2980, 3000, (30, 90)),
}
"""EAFL's classes (arXiv 2208.04505 and its code). Here the fastest third of the phones is H and the slowest L: assumed."""

IDLE_PERCENT_PER_HOUR = 10
"""EAFL's idle drain, of the charge. Here of the charge at first, so that it is a constant power: empty after 10 idle hours."""


def device_tables() -> list[str]:
    """Names that `device` knows, sorted."""
    known = tables.settings("classes")
    return sorted([*_PHONES, *(name for name in known if name != "mixes"), *known["mixes"]])


def device(table: str, rng: np.random.Generator) -> Device:
    """Draw a device. The same generator state gives the same device on every machine.

    Raises:
        ConfigError: there is no such table; the message names the nearest.
    """
    known = tables.settings("classes")
    if table in known["mixes"]:
        table = _pick(known["mixes"][table], rng)
    if table in _PHONES:
        drawn = phone(_PHONES[table] + (1 - _PHONES[table]) * rng.random(), rng)
        return msgspec.structs.replace(drawn, battery_mj=None) if table == "charging-phones" else drawn
    if table not in known or table == "mixes":
        raise ConfigError(f"unknown device table {table!r}; {nearest(table, device_tables())}")
    facts = {key: value for key, value in known[table].items() if key != "source"}
    return Device(name=table, **facts)


def phone(quantile: float, rng: np.random.Generator) -> Device:
    """The phone that is faster in training than the share `quantile` (0 <= quantile < 1) of the 333; its charge is drawn."""
    below, part = divmod(quantile * 100, 1)
    speeds = tables.numbers("phones")["flops_per_s"]
    flops_per_s = speeds[int(below)] * (1 - part) + speeds[int(below) + 1] * part
    kind = PHONE_CLASSES["LMH"[int(quantile * 3)]]
    low, high = kind.charge_percent
    battery_mj = kind.battery_mj(int(rng.integers(low, high + 1)))
    return Device(
        name=f"phone-p{int(below):02d}",
        flops_per_s=round(flops_per_s),
        watts_compute_mw=kind.compute_mw,
        watts_idle_mw=battery_mj * IDLE_PERCENT_PER_HOUR // 100 // 3600,
        battery_mj=battery_mj,
        radio="wifi",
    )


def _pick(weights: dict[str, int], rng: np.random.Generator) -> str:
    at = int(rng.integers(sum(weights.values())))
    for name, weight in weights.items():
        if at < weight:
            return name
        at -= weight
    raise AssertionError("weights are integers >= 0 with a positive sum")
