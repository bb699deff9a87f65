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

EXTRAS = {
    "torch": ("torch",),
    "sklearn": ("scikit-learn",),
    "report": ("matplotlib",),
    "onnx": ("onnxruntime", "onnx", "onnxscript"),
    "openvino": ("openvino",),
}
"""Extra -> the distributions that it brings."""

# Flag of /proc/cpuinfo -> what it speeds up.
_FLAGS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "VNNI (int8 dot products)",
    "avx_vnni": "VNNI of 256 bits",
    "avx512_bf16": "bf16",
    "amx_tile": "AMX",
    "amx_bf16": "AMX bf16",
    "amx_int8": "AMX int8",
}
_LOW_DISK_BYTES = 2 * 10**9


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: [bold]kuberml doctor --json[/bold]")(doctor)


def doctor(json: Annotated[bool, typer.Option("--json", help="As JSON on stdout.")] = False) -> None:
    """Say what this machine has (cores, vector instructions, extras, disk, data) and how to get what is missing."""
    facts = {**machine(), **energy(), **extras(), **engines(), **storage()}
    if json:
        json_out(facts)
    else:
        table_out(("what", "here"), facts.items())


def machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """Python, cores and vector instructions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    from kuberml.serving.engines.cpu import cpu_flags

    flags = cpu_flags(cpuinfo)
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


def engines(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """What `kuberml serve` may take to answer quickly here, and why not the rest."""
    from kuberml.serving.engines.cpu import this_cpu
    from kuberml.serving.engines.plan import candidates

    tried = candidates(this_cpu(cpuinfo))
    able = [f"{one.engine} {one.precision}" for one in tried if not one.refusal]
    why = {f"not {one.engine} {one.precision}": one.refusal for one in tried if one.refusal}
    taken = f"{', '.join(able)}: what is fastest for a model, of those that answer as it does, is taken"
    amx = any(flag.startswith("amx") for flag in this_cpu(cpuinfo).flags)
    said = {"AMX": "runtimes take it by themselves for bf16 and int8; untested by kuberml"} if amx else {}
    return {"engines": taken if len(able) > 1 else "eager fp32: nothing else can be had", **said, **why}


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


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
