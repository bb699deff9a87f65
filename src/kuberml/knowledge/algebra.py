"""The algebra of statistics: they add and subtract exactly.

`merge` is associative and commutative with `moments.empty` as its zero, and `remove(merge(a, b), b)` is `a`: the sum over a set
of packets is a function of the set, and forgetting one equals never having had it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import msgspec
import numpy as np

from kuberml.core.errors import ConfigError
from kuberml.core.ids import LabelId
from kuberml.knowledge.grid import INT64_MAX, IntArray
from kuberml.knowledge.moments import Statistics


def merge(a: Statistics, b: Statistics) -> Statistics:
    """The sum. Labels meet by name; packets of different length meet at the shorter.

    Raises:
        ConfigError: another basis, step, clip or profile, or the sum overflows 64 bits.
    """
    a, b = _aligned(a, b)
    labels = tuple(sorted({*a.labels, *b.labels}))
    return _combine(labels, a, b, 1)


def merge_all(packets: Iterable[Statistics]) -> Statistics:
    """The sum of one or more. Any order gives the same integers.

    Raises:
        ConfigError: as `merge`; or there is none.
    """
    every = list(packets)
    if not every:
        raise ConfigError("nothing to merge: at least one packet is needed (moments.empty is the zero)")
    return functools.reduce(merge, every)


def remove(a: Statistics, b: Statistics) -> Statistics:
    """`a` without `b`: what it would be had `b` never been merged into it.

    Raises:
        ConfigError: as `merge`; or `b` cannot be a part of `a`: more samples of a label, more left of a label without samples,
            or fewer dimensions.
    """
    if b.dims < a.dims:
        raise ConfigError(f"{b.dims} dimensions cannot be removed from {a.dims}: the others would keep what it brought")
    a, b = _aligned(a, b)
    have, gone = a.counts, b.counts
    for label, count in gone.items():
        if count > have.get(label, 0):
            raise ConfigError(
                f"{count} samples of {label!r} cannot be removed from {have.get(label, 0)}: they were never merged"
            )
    kept = tuple(label for label in a.labels if have[label] > gone.get(label, 0))
    left = _combine(a.labels, a, b, -1)
    emptied = [position for position, label in enumerate(a.labels) if label not in kept]
    if left.sums_dC[:, emptied].any() or (not kept and left.gram_dd.any()):
        raise ConfigError("removing it leaves sums without samples: it was never merged")
    return _select(left, kept)


def prefix(stats: Statistics, dims: int) -> Statistics:
    """The statistics of the first `dims` features: a smaller packet, from the same samples.

    Raises:
        ConfigError: dims is not 1 to stats.dims.
    """
    if not 1 <= dims <= stats.dims:
        raise ConfigError(f"dims must be 1 to {stats.dims}, not {dims}")
    d = dims + 1
    return msgspec.structs.replace(stats, sums_dC=stats.sums_dC[:d], gram_dd=np.ascontiguousarray(stats.gram_dd[:d, :d]))


def check_alike(a: Statistics, b: Statistics) -> None:
    """Check that two statistics are of the same features in the same units.

    Raises:
        ConfigError: they are not.
    """
    for field in ("basis", "step_log2", "clip", "profile"):
        ours, theirs = getattr(a, field), getattr(b, field)
        if ours != theirs:
            raise ConfigError(f"statistics of another {field} do not add up: {theirs!r:.70}, not {ours!r:.70}")


def _aligned(a: Statistics, b: Statistics) -> tuple[Statistics, Statistics]:
    check_alike(a, b)
    dims = min(a.dims, b.dims)
    return (a if a.dims == dims else prefix(a, dims)), (b if b.dims == dims else prefix(b, dims))


def _combine(labels: tuple[LabelId, ...], a: Statistics, b: Statistics, sign: int) -> Statistics:
    """Return a + sign * b over `labels`, which hold those of both."""
    a, b = _select(a, labels), _select(b, labels)
    return msgspec.structs.replace(
        a,
        counts_C=_add(a.counts_C, b.counts_C, sign),
        sums_dC=_add(a.sums_dC, b.sums_dC, sign),
        gram_dd=_add(a.gram_dd, b.gram_dd, sign),
    )


def _select(stats: Statistics, labels: tuple[LabelId, ...]) -> Statistics:
    """Columns in the order of `labels`; zeros for a label that it does not have."""
    if stats.labels == labels:
        return stats
    place = {label: position for position, label in enumerate(labels)}
    held = [position for position, label in enumerate(stats.labels) if label in place]
    at = [place[stats.labels[position]] for position in held]
    counts_C = np.zeros(len(labels), stats.counts_C.dtype)
    sums_dC = np.zeros((len(stats.sums_dC), len(labels)), stats.sums_dC.dtype)
    counts_C[at], sums_dC[:, at] = stats.counts_C[held], stats.sums_dC[:, held]
    return msgspec.structs.replace(stats, labels=labels, counts_C=counts_C, sums_dC=sums_dC)


def _add(a: IntArray, b: IntArray, sign: int) -> IntArray:
    if _largest(a) + _largest(b) > INT64_MAX:
        raise ConfigError("the sum overflows 64 bits: a smaller clip or step_log2 leaves room for more samples")
    return a + b if sign > 0 else a - b


def _largest(integers: IntArray) -> int:
    """The largest |x| as a Python integer, which cannot overflow."""
    return max(int(integers.max(initial=0)), -int(integers.min(initial=0)))
