"""Energy over a made-up sysfs: what is read, what wraps, and what is said where nothing can be measured."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from kuberml.worlds.live import energy
from kuberml.worlds.live.energy import Counter, Modelled, batteries, meters, rapl_zones, why_not_measured


def zone(sys: Path, name: str, says: str, uj: int | None, range_uj: int = 262_143_328_850) -> Path:
    folder = sys / "class" / "powercap" / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(says + "\n")
    if uj is not None:
        (folder / "energy_uj").write_text(f"{uj}\n")
        (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return folder


def battery(sys: Path, name: str, **files: object) -> Path:
    folder = sys / "class" / "power_supply" / name
    folder.mkdir(parents=True)
    for file, content in ({"type": "Battery"} | files).items():
        (folder / file).write_text(f"{content}\n")
    return folder


def test_packages_and_memory_are_added_up_and_cores_are_not_counted_twice(tmp_path: Path) -> None:
    first = zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 0)
    cores = zone(tmp_path, "intel-rapl:0:0", "core", 100)
    memory = zone(tmp_path, "intel-rapl:0:1", "dram", 1000)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 5_000_000)  # the same package by another way
    (meter,) = meters(tmp_path, nvml="")
    assert (meter.label, meter.joules()) == ("measured: rapl", 0)
    for folder, uj in ((first, 7_000_000), (second, 500_000), (cores, 99_000_000), (memory, 1_001_000)):
        (folder / "energy_uj").write_text(str(uj))
    assert meter.joules() == pytest.approx(2 + 0.5 + 1)
    assert why_not_measured(tmp_path) == ""


def test_a_counter_that_wraps_goes_on(tmp_path: Path) -> None:
    folder = zone(tmp_path, "intel-rapl:0", "package-0", 9_000_000, range_uj=10_000_000)
    (meter,) = meters(tmp_path, nvml="")
    (folder / "energy_uj").write_text("500000")
    assert meter.joules() == pytest.approx(1.5)
    (folder / "energy_uj").write_text("900000")
    assert meter.joules() == pytest.approx(1.9)
    (folder / "energy_uj").write_text("noise")
    assert meter.joules() == pytest.approx(1.9)
    (folder / "energy_uj").unlink()
    assert meter.joules() == pytest.approx(1.9)


def test_a_counter_without_a_range_that_falls_counts_as_nothing() -> None:
    readings = iter([100, 150, 20, 30, None, 40])
    counter = Counter(lambda: next(readings), None)
    assert [counter.total_uj() for _ in range(5)] == [50, 50, 60, 60, 70]


def test_what_drains_out_of_a_battery_counts_and_charging_does_not(tmp_path: Path) -> None:
    by_energy = battery(tmp_path, "BAT0", energy_now=50_000_000, status="Discharging")
    by_charge = battery(tmp_path, "BAT1", charge_now=3_000_000, voltage_min_design=10_000_000)
    battery(tmp_path, "hidpp_battery_0", energy_now=5, scope="Device")
    battery(tmp_path, "AC", type="Mains")
    battery(tmp_path, "BAT9")  # says nothing
    assert [one.name for one in batteries(tmp_path)] == ["BAT0", "BAT1"]
    (meter,) = meters(tmp_path, nvml="")
    assert meter.label == "measured: battery"
    (by_energy / "energy_now").write_text("49000000")  # 1 Wh
    assert meter.joules() == pytest.approx(3600)
    (by_energy / "energy_now").write_text("50000000")
    assert meter.joules() == pytest.approx(3600)
    (by_charge / "charge_now").write_text("2900000")  # 0.1 Ah at 10 V: 1 Wh
    assert meter.joules() == pytest.approx(7200)


def test_a_counter_that_nobody_may_read_is_said_so(tmp_path: Path) -> None:
    closed = zone(tmp_path, "intel-rapl:0", "package-0", None)
    (closed / "energy_uj").mkdir()  # root may read a file of mode 0, as this test may run; nobody reads a folder
    assert rapl_zones(tmp_path) == ([], [closed])
    assert "cannot be read" in why_not_measured(tmp_path)
    assert meters(tmp_path, nvml="")[0].label.startswith("modelled: 10 W")


def test_where_nothing_can_be_measured_it_is_modelled_and_says_so(tmp_path: Path) -> None:
    (meter,) = meters(tmp_path, nvml="")
    assert (meter.label, why_not_measured(tmp_path)) == (
        "modelled: 10 W per busy core", "no RAPL in this machine's /sys/class/powercap",
    )  # fmt: skip
    began_s = time.process_time()
    while time.process_time() - began_s < 0.2:
        sum(range(1000))
    assert 0.2 * energy.WATTS_PER_CORE <= meter.joules() < 10 * energy.WATTS_PER_CORE
    assert Modelled(7.5, iter([1.0, 0.5]).__next__).joules() == 0


def test_no_gpu_library_is_no_meter_and_no_error(tmp_path: Path) -> None:
    assert len(meters(tmp_path, nvml="libno-such-thing.so.9")) == 1
    assert len(meters(tmp_path, nvml="libc.so.6")) == 1  # a library without these functions
