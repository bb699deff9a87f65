"""What can be checked of statistics without the data: bounds, the constant, scatter, counts, and what two versions show.

These laws bound what a packet can do: a contribution is at most its count times clip squared. They do not see swapped labels
or lies inside the bounds; a trial does (`exchange`).
"""

from __future__ import annotations

import sys

import numpy as np

from kuberml.core.errors import RemoteError
from kuberml.knowledge.grid import INT64_MAX, FloatArray, IntArray
from kuberml.knowledge.moments import Statistics, constant_row
from kuberml.knowledge.threads import one_thread
from kuberml.knowledge.withholding import MIN_CLASS_COUNT, difference_problem

EXACT_TOLERANCE = 1e-10
"""Of the trace: rounding of float64 in the test of scatter, some thousand times over."""

FP16_TOLERANCE = 2.0**-9
"""Of the trace. Rounding to fp16 moves entries by 2^-11 of themselves, and the scatter by at most 3 * 2^-11 of the trace."""


def check(stats: Statistics) -> None:
    """Check every law of statistics.

    Raises:
        RemoteError: one is broken, and which.
    """
    check_frame(stats)
    d, classes = len(stats.gram_dd), len(stats.labels)
    if stats.gram_dd.shape != (d, d) or stats.sums_dC.shape != (d, classes) or d < 2:
        raise RemoteError(f"Gram matrix {stats.gram_dd.shape} and class sums {stats.sums_dC.shape} do not fit together")
    if (stats.gram_dd != stats.gram_dd.T).any():
        raise RemoteError("the Gram matrix is not symmetric")
    check_entries(stats.gram_dd[1:, 1:], stats.sums_dC[1:], stats)
    if (stats.sums_dC[0] != stats.counts_C * stats.sums_unit).any():
        raise RemoteError("the constant's class sums are not the counts")
    if (stats.gram_dd[0] != constant_row(stats.sums_dC, stats)).any():
        raise RemoteError("the constant's row of the Gram matrix is not the sum of the class sums")
    check_scatter(stats)


def check_frame(stats: Statistics) -> None:
    """Check labels, counts and units.

    Raises:
        RemoteError: labels not sorted or not unique, a count below 1, or so many samples that sums may overflow 64 bits.
    """
    if list(stats.labels) != sorted(set(stats.labels)):
        raise RemoteError("labels must be sorted and unique")
    if len(stats.counts_C) != len(stats.labels) or not len(stats.labels):
        raise RemoteError(f"{len(stats.labels)} labels have {len(stats.counts_C)} counts")
    if min(counts := [int(count) for count in stats.counts_C]) < 1:
        raise RemoteError(f"a label with {min(counts)} samples")
    if max(gram_bound(stats, sum(counts)), sum(counts) * stats.clip**2) > INT64_MAX:
        raise RemoteError(f"{sum(counts)} samples of |q| up to {stats.clip} may overflow 64 bits")


def check_entries(gram_kk: IntArray, sums_kC: IntArray, frame: Statistics) -> None:
    """Check that no entry is larger than its samples allow: |G_ij| <= n clip^2, so trace <= n d clip^2; |B_jc| <= n_c clip.

    Raises:
        RemoteError: one is.
    """
    n = frame.samples
    if not _within(gram_kk, gram_bound(frame, n)):
        raise RemoteError(f"a Gram entry is over {n} samples times clip squared")
    for position, label in enumerate(frame.labels):
        if not _within(sums_kC[:, position], _sums_bound(frame, int(frame.counts_C[position]), n)):
            raise RemoteError(f"a class sum of {label!r} is over {frame.counts_C[position]} samples times clip")


def check_scatter(stats: Statistics) -> None:
    """Check that the scatter within the classes, G - sum_c B_c B_c^T / n_c, has no negative eigenvalue.

    Rounding is allowed for: `EXACT_TOLERANCE` or `FP16_TOLERANCE` of the trace; a merge of fp16 packets keeps the same bound,
    as traces add. Costs d^3 / 3 flops (one Cholesky factor).

    Raises:
        RemoteError: it has: no samples have these moments.
    """
    gram_kk = stats.gram_dd[1:, 1:] / stats.gram_unit
    sums_kC = stats.sums_dC[1:] / stats.sums_unit
    scaled_kC = sums_kC / np.sqrt(stats.counts_C)
    with one_thread():
        scatter_kk = gram_kk - scaled_kC @ scaled_kC.T
        scatter_kk[np.diag_indices_from(scatter_kk)] += _tolerance(gram_kk, stats)
        try:
            np.linalg.cholesky(scatter_kk)
        except np.linalg.LinAlgError as error:
            raise RemoteError("the scatter within the classes is not positive semi-definite: no samples have it") from error


def exchange_problem(before: Statistics, after: Statistics) -> str | None:
    """What is wrong with two versions' sums: a label whose count stayed while its samples did not. None: nothing.

    One sample swapped for another shows their difference. Sums of profile fp16 may differ by their rounding.
    """
    d = min(len(before.gram_dd), len(after.gram_dd))
    for label in sorted({*before.labels} & {*after.labels}):
        old, new = before.labels.index(label), after.labels.index(label)
        gap_d = np.abs(after.sums_dC[:d, new] - before.sums_dC[:d, old])
        rounding = 2.0**-10 * np.abs(before.sums_dC[:d, old]) + before.samples + after.samples
        allowed_d = rounding if before.profile == "fp16" else np.zeros(d)
        if before.counts_C[old] == after.counts_C[new] and (gap_d > allowed_d).any():
            return f"{label!r} has as many samples as before, but others: the difference of the versions shows them"
    return None


def version_problem(before: Statistics, after: Statistics, minimum: int = MIN_CLASS_COUNT) -> str | None:
    """Why `after` must not be shown to somebody who has `before`: their difference shows single samples. None: it may."""
    if before.basis != after.basis:
        return None  # of other features: they do not subtract
    return difference_problem(before.counts, after.counts, minimum) or exchange_problem(before, after)


def gram_bound(frame: Statistics, n: int) -> int:
    """Largest |G_ij| of n samples, as a Python integer, in the Gram matrix's unit; rounding to fp16 allowed for."""
    exact = n * frame.clip**2 * frame.gram_unit >> (2 * frame.step_log2)
    return exact if frame.profile == "exact" else exact + (exact >> 10) + n


def _sums_bound(frame: Statistics, count: int, n: int) -> int:
    exact = count * frame.clip * frame.sums_unit >> frame.step_log2
    return exact if frame.profile == "exact" else exact + (exact >> 10) + n


def _tolerance(gram_kk: FloatArray, stats: Statistics) -> float:
    trace = float(np.trace(gram_kk))
    if stats.profile == "exact":
        return EXACT_TOLERANCE * trace + sys.float_info.min
    subnormal: float = 2.0**-24 * stats.samples * len(gram_kk) * (1 + len(stats.labels) * stats.clip / 2**stats.step_log2)
    return FP16_TOLERANCE * trace + subnormal


def _within(integers: IntArray, bound: int) -> bool:
    return -bound <= int(integers.min(initial=0)) and int(integers.max(initial=0)) <= bound
