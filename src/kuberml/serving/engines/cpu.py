"""What the processor and the installation offer, and what follows from it: pure functions of flags and names."""

from __future__ import annotations

import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from kuberml.serving.engines.engine import Precision

BF16 = ("avx512_bf16", "amx_bf16")
INT8 = ("avx512_vnni", "avx_vnni", "amx_int8")
VECTOR = ("avx2", "avx512f", *INT8, *BF16, "amx_tile")
"""Flags of /proc/cpuinfo that an engine can use."""

_NEEDS = {
    "eager": (),
    "torch": ("torch",),
    "compiled": ("torch",),
    "onnx": ("torch", "onnx", "onnxscript", "onnxruntime"),
    "openvino": ("torch", "openvino"),
}
_EXTRA = {
    **dict.fromkeys(("onnx", "onnxscript", "onnxruntime"), "onnx"),
    **{name: name for name in ("torch", "openvino", "torchao")},
}
ENGINES = tuple(_NEEDS)


@dataclass(frozen=True, slots=True)
class Cpu:
    """One machine, as far as engines care.

    Attributes:
        flags: those of VECTOR that it has.
        modules: Python modules that are installed, of those that engines need.
        compiler: whether a C++ compiler is there, which `torch.compile` calls at run time.
    """

    flags: frozenset[str] = frozenset()
    modules: frozenset[str] = frozenset()
    compiler: bool = False


def this_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> Cpu:
    """This machine now."""
    modules = frozenset(name for name in _EXTRA if importlib.util.find_spec(name) is not None)
    compiler = any(shutil.which(name) for name in (os.environ.get("CXX") or "g++", "c++", "clang++"))
    return Cpu(frozenset(VECTOR) & cpu_flags(cpuinfo), modules, compiler)


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """All flags of the first processor; none where they cannot be read."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    named = (line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(named, []))


def refusal(cpu: Cpu, engine: str, precision: Precision) -> str:
    """Why an engine in a precision is not to be tried here; "" if it is.

    Speed is not a reason: it is measured. What cannot run, would be emulated, or gives wrong sums without saying so, is.
    """
    missing = [name for name in _NEEDS[engine] if name not in cpu.modules]
    if missing:
        return f"{', '.join(missing)} not installed: pip install 'kuberml[{_EXTRA[missing[0]]}]'"
    if engine == "compiled" and not cpu.compiler:
        return "torch.compile needs a C++ compiler when it runs: there is no g++, c++ or clang++"
    return "" if precision == "fp32" else _reduced(cpu, engine, precision)


def _reduced(cpu: Cpu, engine: str, precision: Precision) -> str:
    if engine == "eager" or (engine == "torch" and precision != "bf16") or (engine, precision) == ("onnx", "bf16"):
        return f"{engine} does not compute in {precision} here"
    if precision == "bf16":
        return "" if cpu.flags.intersection(BF16) else f"this CPU has none of {', '.join(BF16)}: bf16 would be emulated"
    calibrates = {"openvino": _NEEDS["onnx"], "compiled": ("torchao",)}.get(engine, ())
    if missing := [name for name in calibrates if name not in cpu.modules]:
        return f"{', '.join(missing)} not installed, which calibrate: pip install 'kuberml[{_EXTRA[missing[0]]}]'"
    if precision == "int8" and not cpu.flags.intersection(INT8):
        return (
            f"this CPU has none of {', '.join(INT8)}: sums of byte products would saturate at 16 bits without a word"
            " (precision='int8-reduced' keeps weights to 7 bits)"
        )
    return ""


def threads_here() -> int:
    """Threads that an engine uses: $OMP_NUM_THREADS, or as many as there are cores for this process."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(said) if said.isdecimal() and int(said) > 0 else cores
