"""Units: integer nanoseconds for time, integers for bytes and flops; texts for people."""

from __future__ import annotations

import re

from kuberml.core.errors import ConfigError

NS = 1_000_000_000
"""Nanoseconds in a second."""

_SIZES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*")


def to_ns(seconds: float) -> int:
    """Seconds as integer nanoseconds, rounded to the nearest.

    Raises:
        ConfigError: negative, NaN or infinite.
    """
    if not 0 <= seconds < float("inf"):
        raise ConfigError(f"a time must be 0 or more seconds and finite, not {seconds!r}")
    return round(seconds * NS)


def to_seconds(time_ns: int) -> float:
    """Integer nanoseconds as seconds."""
    return time_ns / NS


def parse_size_bytes(text: str | int) -> int:
    """Bytes from 65536, "64 KB" (10^3) or "64 KiB" (2^10).

    Raises:
        ConfigError: not a number with one of the units B, KB, MB, GB, KiB, MiB, GiB.
    """
    match = _SIZE.fullmatch(str(text))
    if match is None or match[2].lower() not in _SIZES:
        raise ConfigError(f"not a size: {text!r}; write for instance 65536, '64 KB' or '64 KiB'")
    return round(float(match[1]) * _SIZES[match[2].lower()])


def show_bytes(size_bytes: float) -> str:
    """Bytes for people, in powers of ten: 999 B, 63.9 KB, 1.20 MB."""
    for factor, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "KB")):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.3g} {unit}"
    return f"{size_bytes:.0f} B"


def show_seconds(seconds: float) -> str:
    """Seconds for people: 12.3 ms, 4.56 s, 3.2 min, 1.5 h."""
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
