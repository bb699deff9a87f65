"""Joules: measured where the machine can, modelled where it cannot, and always labelled as which.

Measured: RAPL (/sys/class/powercap, often for root only), the GPU's own counter (NVML, if its library is there), a battery
(/sys/class/power_supply, while it drains). These count the whole machine, not this process. Modelled: this process's CPU
seconds times a stated power.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

SYS = Path("/sys")
WATTS_PER_CORE = 10.0
"""Of the model: one busy core of a server, its share of memory and losses included. A guess within a factor of three."""


class Meter(Protocol):
    """Counts joules from when it was made."""

    @property
    def label(self) -> str:
        """What it is: "measured: ..." or "modelled: ..."."""
        ...

    def joules(self) -> float:
        """Since it was made; never goes back. Ask at least every few minutes: counters wrap."""
        ...


class Counter:
    """Adds up what a counter of the hardware counts, which starts again from 0 at `range_uj` (None: never)."""

    def __init__(self, read_uj: Callable[[], int | None], range_uj: int | None) -> None:
        self._read_uj, self._range_uj = read_uj, range_uj
        self._last_uj, self._total_uj = read_uj(), 0

    def total_uj(self) -> int:
        """Since it was made. A reading that fails, or a counter that was reset, counts as nothing used."""
        now_uj = self._read_uj()
        if now_uj is not None:
            if self._last_uj is not None:
                step_uj = now_uj - self._last_uj
                if step_uj < 0:
                    step_uj = step_uj + self._range_uj if self._range_uj else 0
                self._total_uj += max(0, step_uj)
            self._last_uj = now_uj
        return self._total_uj


class _Counted:
    """What counters of the hardware count."""

    _counters: list[Counter]

    def joules(self) -> float:
        """See Meter."""
        return sum(counter.total_uj() for counter in self._counters) / 1e6


class Rapl(_Counted):
    """CPU packages and memory, from the kernel's powercap files."""

    label = "measured: rapl"

    def __init__(self, zones: list[Path]) -> None:
        self._counters = [
            Counter(lambda zone=zone: _number(zone / "energy_uj"), _number(zone / "max_energy_range_uj"))  # type: ignore[misc]
            for zone in zones
        ]


class Battery(_Counted):
    """What drained out of batteries; charging counts as nothing."""

    label = "measured: battery"

    def __init__(self, supplies: list[Path]) -> None:
        self._counters = [Counter(lambda supply=supply: _drained_uj(supply), None) for supply in supplies]  # type: ignore[misc]


class Gpu(_Counted):
    """NVIDIA's own counters, of all GPUs that this machine shows."""

    label = "measured: nvml"

    def __init__(self, library: ctypes.CDLL, devices: list[ctypes.c_void_p]) -> None:
        self._counters = [Counter(lambda device=device: _gpu_uj(library, device), None) for device in devices]  # type: ignore[misc]


class Modelled:
    """CPU seconds of this process and its children that have ended, times a power."""

    def __init__(self, watts: float = WATTS_PER_CORE, cpu_s: Callable[[], float] | None = None) -> None:
        """`cpu_s`: seconds of computing so far; default: this process's."""
        self._watts_w, self._cpu_s = watts, cpu_s or _own_cpu_s
        self._began_s = self._cpu_s()
        self.label = f"modelled: {watts:g} W per busy core"

    def joules(self) -> float:
        """See Meter."""
        return max(0.0, self._cpu_s() - self._began_s) * self._watts_w


def meters(sys: Path = SYS, *, nvml: str = "libnvidia-ml.so.1") -> list[Meter]:
    """What can be metered here, best first: RAPL, else a battery, else the model; and the GPU's counter beside it.

    Args:
        sys: root of sysfs.
        nvml: the GPU library's name; "" looks for none.
    """
    found: list[Meter] = []
    zones, supplies = rapl_zones(sys)[0], batteries(sys)
    if zones:
        found.append(Rapl(zones))
    elif supplies:
        found.append(Battery(supplies))
    else:
        found.append(Modelled())
    gpu = _gpu(nvml) if nvml else None
    return [*found, gpu] if gpu is not None else found


def why_not_measured(sys: Path = SYS) -> str:
    """For people: why there is no RAPL here; "" if there is."""
    zones, closed = rapl_zones(sys)
    if zones:
        return ""
    if closed:
        return f"RAPL is there, but {closed[0] / 'energy_uj'} cannot be read: run as root, or let this user read it"
    return "no RAPL in this machine's /sys/class/powercap"


def rapl_zones(sys: Path = SYS) -> tuple[list[Path], list[Path]]:
    """Zones whose counters can be read, and those that cannot: packages, and memory beside them (cores are inside packages)."""
    readable: list[Path] = []
    closed: list[Path] = []
    for zone in sorted((sys / "class" / "powercap").glob("*-rapl:*")):
        name = _text(zone / "name")
        if name.startswith("package") or name == "dram":
            (readable if _number(zone / "energy_uj") is not None else closed).append(zone)
    return readable, closed


def batteries(sys: Path = SYS) -> list[Path]:
    """Batteries of this machine (not of its mouse) whose charge can be read."""
    return [
        supply
        for supply in sorted((sys / "class" / "power_supply").glob("*"))
        if _text(supply / "type") == "Battery" and _text(supply / "scope") != "Device" and _charge_uj(supply) is not None
    ]


def _drained_uj(supply: Path) -> int | None:
    """Grows while the battery drains; charging takes it back, which a Counter counts as nothing."""
    charge_uj = _charge_uj(supply)
    return None if charge_uj is None else -charge_uj


def _charge_uj(supply: Path) -> int | None:
    energy_uwh = _number(supply / "energy_now")
    if energy_uwh is not None:
        return energy_uwh * 3600
    charge_uah = _number(supply / "charge_now")
    voltage_uv = _number(supply / "voltage_min_design") or _number(supply / "voltage_now")
    return None if charge_uah is None or voltage_uv is None else charge_uah * voltage_uv * 3600 // 1_000_000


def _gpu(name: str) -> Gpu | None:
    try:
        library = ctypes.CDLL(name)
        if library.nvmlInit_v2() != 0:
            return None
        count = ctypes.c_uint()
        library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        devices = []
        for place in range(min(count.value, 64)):
            device = ctypes.c_void_p()
            if library.nvmlDeviceGetHandleByIndex_v2(place, ctypes.byref(device)) == 0 and _gpu_uj(library, device) is not None:
                devices.append(device)
    except (OSError, AttributeError):  # no library, or one without these functions
        return None
    return Gpu(library, devices) if devices else None


def _gpu_uj(library: ctypes.CDLL, device: ctypes.c_void_p) -> int | None:
    used_mj = ctypes.c_ulonglong()
    status = library.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(used_mj))
    return None if status != 0 else used_mj.value * 1000


def _own_cpu_s() -> float:
    used = os.times()
    return time.process_time() + used.children_user + used.children_system


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def _number(file: Path) -> int | None:
    try:
        return int(_text(file))
    except ValueError:
        return None
