"""`kuberml doctor`: what this machine has, and what is missing for what."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from kuberml.cli.output import json_out, table_out

EXTRAS = {"torch": ("torch",), "sklearn": ("scikit-learn",), "report": ("matplotlib",)}
"""Extra -> the distributions that it brings."""

# Flag of /proc/cpuinfo -> what it speeds up.
_FLAGS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "VNNI (int8 dot products)",
    "avx512_bf16": "bf16",
    "amx_tile": "AMX",
}
_LOW_DISK_BYTES = 2 * 10**9


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: [bold]kuberml doctor --json[/bold]")(doctor)


def doctor(json: Annotated[bool, typer.Option("--json", help="As JSON on stdout.")] = False) -> None:
    """Say what this machine has (cores, vector instructions, extras, disk, data) and how to get what is missing."""
    facts = {**machine(), **energy(), **extras(), **storage()}
    if json:
        json_out(facts)
    else:
        table_out(("what", "here"), facts.items())


def machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """Python, cores and vector instructions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    flags = _cpu_flags(cpuinfo)
    fast = [name for flag, name in _FLAGS.items() if flag in flags]
    return {
        "python": f"{platform.python_version()} at {sys.executable}",
        "kuberml": _version("kuberml") or "not installed: run from its source",
        "cores": f"{cores} ({platform.machine()})",
        "vector instructions": ", ".join(fast) if fast else "none known" if flags else "cannot be read here",
    }


def extras() -> dict[str, str]:
    """Each extra: the version that is installed, or the line that installs it."""
    found = {}
    for extra, parts in EXTRAS.items():
        missing = [name for name in parts if _version(name) is None]
        there = ", ".join(f"{name} {_version(name)}" for name in parts)
        found[f"extra {extra}"] = f"missing: pip install 'kuberml[{extra}]'" if missing else there
    return found


def storage() -> dict[str, str]:
    """Disk space here, and the data folder."""
    from kuberml.core.units import show_bytes

    free = shutil.disk_usage(".").free
    folder = os.environ.get("KUBERML_DATA")
    if not folder:
        data = "not set: digits ship inside; others need $KUBERML_DATA or --data"
    elif Path(folder).is_dir():
        data = f"{folder}: {', '.join(sorted(item.name for item in Path(folder).iterdir())) or 'empty'}"
    else:
        data = f"{folder} is not a folder"
    return {"free disk": show_bytes(free) + (" (low)" if free < _LOW_DISK_BYTES else ""), "data folder": data}


def energy(sys_root: Path = Path("/sys")) -> dict[str, str]:
    """How joules are known on this machine, and what it would take to measure them."""
    from kuberml.worlds.live.energy import meters, why_not_measured

    known = "; ".join(meter.label for meter in meters(sys_root))
    why = why_not_measured(sys_root)
    return {"energy": f"{known} ({why})" if why else known}


def _cpu_flags(cpuinfo: Path) -> set[str]:
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith(("flags", "Features"))), set())


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
