"""Sufficient statistics of labelled features: counts, class sums and the Gram matrix, as exact integers.

A feature is clipped, quantised to a multiple of 2^-step_log2, and a constant 1 is put before it (index 0). Sums of products of
integers do not depend on order or grouping, so a sum over people, days and machines is *the* sum.

Legend: N samples, d = 1 + features, C labels; q = integer feature.
Source of the statistics: Fanì et al., Accelerating Heterogeneous Federated Learning with Closed-form Classifiers (2406.01116).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec
import numpy as np

from kuberml.core.errors import ConfigError
from kuberml.core.ids import Digest, LabelId
from kuberml.core.values import digest, value
from kuberml.knowledge.grid import Features, Grid, IntArray, exact_sums
from kuberml.knowledge.withholding import MIN_CLASS_COUNT, publishable

Profile: TypeAlias = Literal["exact", "fp16"]

FP16_LOG2 = 24
"""Every finite fp16 number is a multiple of 2^-24."""


@value
class Statistics(msgspec.Struct, frozen=True, eq=False, weakref=True):
    """Counts, class sums and Gram matrix of quantised features.

    Attributes:
        labels: names of the classes, sorted, [C].
        counts_C: int64, samples of each label.
        sums_dC: int64, sum of q over the samples of each label, in units of 1 / sums_unit.
        gram_dd: int64, sum of q q^T over all samples, symmetric, in units of 1 / gram_unit.
        basis: digest of the extractor whose features these are.
        step_log2: features are multiples of 2^-step_log2.
        clip: largest |q|.
        profile: "exact", or "fp16": each packet's entries, divided by its number of samples, were rounded to fp16 once by its
            author; everything after that is exact again.
    """

    labels: tuple[LabelId, ...]
    counts_C: IntArray
    sums_dC: IntArray
    gram_dd: IntArray
    basis: Digest
    step_log2: int = 8
    clip: int = 4096
    profile: Profile = "exact"

    @property
    def samples(self) -> int:
        """How many samples stand behind this."""
        return int(self.counts_C.sum())

    @property
    def dims(self) -> int:
        """Features, without the constant: d - 1."""
        return len(self.gram_dd) - 1

    @property
    def counts(self) -> dict[LabelId, int]:
        """Samples of each label."""
        return {label: int(count) for label, count in zip(self.labels, self.counts_C, strict=True)}

    @property
    def grid(self) -> Grid:
        """Where the features lie."""
        return Grid(self.step_log2, self.clip)

    @property
    def sums_unit(self) -> int:
        """What a class sum of 1 is as an integer."""
        return 1 << (self.step_log2 if self.profile == "exact" else FP16_LOG2)

    @property
    def gram_unit(self) -> int:
        """What a Gram entry of 1 is as an integer."""
        return 1 << (2 * self.step_log2 if self.profile == "exact" else FP16_LOG2)

    @property
    def digest(self) -> Digest:
        """Identity of the integers: equal statistics, and only they, have equal digests on every machine."""
        return digest(self)


def empty(dims: int, *, basis: Digest, step_log2: int = 8, clip: float = 16.0, profile: Profile = "exact") -> Statistics:
    """The statistics of no samples: what `merge` leaves everything else unchanged with."""
    grid = Grid.of(clip, step_log2)
    d = dims + 1
    zeros_C, zeros_dC = np.zeros(0, np.int64), np.zeros((d, 0), np.int64)
    return Statistics((), zeros_C, zeros_dC, np.zeros((d, d), np.int64), basis, step_log2, grid.clip, profile)


def describe(
    z_Nd: Features,
    y_N: Sequence[LabelId],
    *,
    basis: Digest,
    clip: float = 16.0,
    step_log2: int = 8,
    min_class_count: int = MIN_CLASS_COUNT,
    profile: Profile = "exact",
    published: Mapping[LabelId, int] | None = None,
) -> tuple[Statistics, dict[LabelId, int]]:
    """The statistics of one contributor's samples, and what was withheld.

    Withheld are the samples of a label that has fewer than min_class_count of them. Of a label that the version before
    showed, the new ones wait until there are min_class_count of them, and if some are gone, at least min_class_count go:
    the difference of two versions never shows fewer.

    Args:
        z_Nd: features without the constant, float [N, d-1], finite, oldest sample first.
        y_N: label of each sample.
        basis: digest of the extractor.
        clip: features are clipped to -clip .. clip, at least 1.
        step_log2: features are rounded to multiples of 2^-step_log2. 8 loses nothing; 4 takes fp16's bytes, and on CIFAR-10
            loses nothing up to 256 dimensions, 0.4 points at 512 (benchmarks/packets.py).
        min_class_count: least number of samples per label.
        profile: "exact" or "fp16".
        published: samples per label in the version before; its samples are the oldest.

    Returns:
        The statistics, and the number of samples withheld per label.

    Raises:
        ConfigError: shapes do not fit, a feature is not finite, or the integers would not fit in 64 bits.
    """
    z_Nd = np.asarray(z_Nd)
    grid = Grid.of(clip, step_log2)
    if z_Nd.ndim != 2 or len(z_Nd) != len(y_N) or z_Nd.shape[1] < 1:
        raise ConfigError(f"features [N, d] and N labels are needed, not {z_Nd.shape} and {len(y_N)} labels")
    if not np.isfinite(z_Nd).all():
        raise ConfigError("a feature is NaN or infinite: look at the extractor")
    names_N = [str(label) for label in y_N]
    kept_N, withheld = publishable(names_N, min_class_count, published or {})
    labels = tuple(sorted({names_N[i] for i in kept_N}))
    place = {label: position for position, label in enumerate(labels)}
    at_N = np.fromiter((place[names_N[i]] for i in kept_N), np.int64, len(kept_N))
    sums_dC, gram_dd = exact_sums(z_Nd, kept_N, np.eye(len(labels))[at_N], grid)
    counts_C = np.bincount(at_N, minlength=len(labels)).astype(np.int64)
    exact = Statistics(labels, counts_C, sums_dC, gram_dd, basis, step_log2, grid.clip)
    return (exact if profile == "exact" else to_fp16(exact)), withheld


def to_fp16(exact: Statistics) -> Statistics:
    """The same in the profile fp16: entries divided by the number of samples and rounded to fp16, then exact multiples of that.

    The first row and column are not rounded: counts and class sums give them.

    Raises:
        ConfigError: an entry is over fp16's 65,504 (clip at 255 or lower), or the integers would not fit in 64 bits.
    """
    n = exact.samples
    if exact.profile == "fp16" or n == 0:
        return msgspec.structs.replace(exact, profile="fp16")
    if exact.clip**2 > 65504 * exact.gram_unit or n * exact.clip**2 >> (2 * exact.step_log2) >= 2 ** (62 - FP16_LOG2):
        raise ConfigError(f"clip {exact.clip} and {n} samples are too large for the profile fp16; a smaller clip would do")
    sums_dC = _round16(exact.sums_dC, exact.sums_unit, n)
    gram_dd = _round16(exact.gram_dd, exact.gram_unit, n)
    return with_constant(msgspec.structs.replace(exact, sums_dC=sums_dC, gram_dd=gram_dd, profile="fp16"))


def with_constant(stats: Statistics) -> Statistics:
    """The same with row and column 0 set to what counts and class sums say they are."""
    sums_dC, gram_dd = stats.sums_dC.copy(), stats.gram_dd.copy()
    sums_dC[0] = stats.counts_C * stats.sums_unit
    gram_dd[0] = gram_dd[:, 0] = constant_row(sums_dC, stats)
    return msgspec.structs.replace(stats, sums_dC=sums_dC, gram_dd=gram_dd)


def constant_row(sums_dC: IntArray, stats: Statistics) -> IntArray:
    """Row 0 of the Gram matrix, int64 [d]: the sum of all class sums, in the Gram matrix's unit."""
    row: IntArray = sums_dC.sum(axis=1) * (stats.gram_unit // stats.sums_unit)
    return row


def _round16(integers: IntArray, unit: int, n: int) -> IntArray:
    halves = (integers / (unit * n)).astype(np.float16)
    rounded: IntArray = (halves.astype(np.float64) * (1 << FP16_LOG2)).astype(np.int64) * n
    return rounded
