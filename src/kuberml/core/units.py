"""Units: integer nanoseconds for time, integers for bytes and flops; texts for people."""

from __future__ import annotations

import re
from fractions import Fraction

from kuberml.core.errors import ConfigError

NS = 1_000_000_000
"""Nanoseconds in a second."""

MAX_S = 9_000_000_000
"""The longest time, 285 years: beyond it nanoseconds leave 64 bits."""

_SIZES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SIZE = re.compile(r"\s*([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([a-zA-Z]*)\s*")


def plain(text: str, keep: str = "") -> str:
    """Strangers' text for a terminal or a log: what does not print, but for `keep`, as Python writes it.

    So it neither begins a line of its own nor tells the terminal anything: ESC becomes the four characters of its escape.
    """
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def to_ns(seconds: float) -> int:
    """Seconds as integer nanoseconds, rounded to the nearest.

    Raises:
        ConfigError: negative, NaN, or over MAX_S.
    """
    if not 0 <= seconds <= MAX_S:
        raise ConfigError(f"a time must be 0 or more seconds and at most {MAX_S}, not {seconds!r}")
    return round(seconds * NS)


def parse_size_bytes(text: str | int) -> int:
    """Bytes from 65536, "64 KB" (10^3) or "64 KiB" (2^10), rounded to whole bytes.

    Raises:
        ConfigError: not a number (of at most 18 digits) with one of the units B, KB, MB, GB, KiB, MiB, GiB.
    """
    match = _SIZE.fullmatch(str(text))
    if match is None or match[2].lower() not in _SIZES:
        raise ConfigError(f"not a size: {text!r}; write for instance 65536, '64 KB' or '64 KiB'")
    return round(Fraction(match[1]) * _SIZES[match[2].lower()])


def show_bytes(size_bytes: float) -> str:
    """Bytes for people, in powers of ten and three digits: 999 B, 63.9 KB, 1.2 MB."""
    return _show(size_bytes, (("B", 1), ("KB", 10**3), ("MB", 10**6), ("GB", 10**9)), whole=True)


def show_seconds(seconds: float) -> str:
    """Seconds for people, three digits: 12.3 ms, 4.56 s, 3.2 min, 1.5 h."""
    if abs(seconds) < 1:
        return _show(seconds, (("ms", 1e-3), ("s", 1)))
    return _show(seconds, (("s", 1), ("min", 60), ("h", 3600)), enough=120)


def _show(amount: float, units: tuple[tuple[str, float], ...], *, enough: float = 1000, whole: bool = False) -> str:
    """Three digits in the first unit in which the amount, *as shown*, stays under `enough`; else in the last."""
    for unit, factor in units:
        form = ".3g" if abs(amount) < 1000 * factor and not (whole and factor == 1) else ".0f"
        shown = float(format(amount / factor, form))
        if abs(shown) < enough or unit == units[-1][0]:
            break
    return f"{f'{shown:.6f}'.rstrip('0').rstrip('.')} {unit}"
