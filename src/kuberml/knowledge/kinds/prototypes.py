"""Kind `prototypes`: for each label the sum of unit embeddings and their number. Adds and subtracts exactly.

d embedding dimensions, C labels, N samples. Embeddings are scaled to length 1 and rounded to multiples of 2^-step_log2; from
there on everything is integers, so any order and grouping of packets gives the same sums, and `remove` equals never having
had it. A class mean is a direction: what a nearest-prototype classifier or an open-set detector needs, for d numbers a label.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import Digest, LabelId, check_digest
from kuberml.core.values import value
from kuberml.knowledge import bitpack
from kuberml.knowledge.card import Card
from kuberml.knowledge.checks import Fault, check_labels, only_blob, read_facts
from kuberml.knowledge.kind import Packed
from kuberml.knowledge.withholding import MIN_CLASS_COUNT, check_counts, publishable

IntArray = npt.NDArray[np.int64]

STEP_LOG2 = 14
MAX_VALUES = 2**22
"""Dimensions times labels."""
MAX_SUM = 2**62


@value
class Prototypes(msgspec.Struct, frozen=True, eq=False):
    """Sums of unit embeddings.

    Attributes:
        labels: C sorted names.
        sums_dC: int64 [d, C], sums of rounded unit embeddings, in units of 2^-step_log2.
        counts_C: int64 [C], how many are in each sum, 1 or more.
        basis: digest of the extractor that made the embeddings.
        step_log2: 1 to 20.
    """

    labels: tuple[LabelId, ...]
    sums_dC: IntArray
    counts_C: IntArray
    basis: Digest
    step_log2: int = STEP_LOG2

    @property
    def counts(self) -> dict[LabelId, int]:
        """Samples of each label."""
        return dict(zip(self.labels, self.counts_C.tolist(), strict=True))

    def directions(self) -> npt.NDArray[np.float64]:
        """The mean of each label scaled to length 1: float64 [d, C]; 0 for a label whose embeddings cancel out."""
        length_C = np.sqrt((self.sums_dC.astype(np.float64) ** 2).sum(axis=0))
        return self.sums_dC / np.where(length_C > 0, length_C, 1.0)

    def scores(self, z_Nd: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """Cosine of each embedding with each prototype: float64 [N, C], -1..1.

        Raises:
            ConfigError: embeddings of another dimension.
        """
        if z_Nd.ndim != 2 or z_Nd.shape[1] != len(self.sums_dC):
            raise ConfigError(f"embeddings {z_Nd.shape} are not [N, {len(self.sums_dC)}]")
        return _unit(z_Nd) @ self.directions()


class _Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dims: int
    step_log2: int
    width: int  # bits of each sum, see `bitpack`


class PrototypesKind:
    """See `Kind`. One blob: the sums, label by label. A card's labels are the counts, its basis the extractor."""

    name = "prototypes"

    def __init__(self, min_class_count: int = MIN_CLASS_COUNT) -> None:
        """`min_class_count`: least samples per label, both in what is packed and in what is opened."""
        self.min_class_count = min_class_count

    def pack(self, value: Prototypes) -> Packed:
        """Raises ConfigError: a label on too few samples, or sums longer than so many unit embeddings can be."""
        check(value, ConfigError)
        check_counts(value.counts, self.min_class_count, ConfigError)
        flat = np.ascontiguousarray(value.sums_dC.T).reshape(-1)
        facts = _Facts(len(value.sums_dC), value.step_log2, bitpack.width_of(flat))
        blob = bitpack.pack_ints(flat, facts.width)
        if not blob:
            raise ConfigError("prototypes that are all zero say nothing")
        return Packed((blob,), value.counts, value.basis, msgspec.to_builtins(facts))

    def unpack(self, card: Card, blobs: tuple[bytes, ...]) -> Prototypes:
        """Raises RemoteError: damaged, a label on too few samples, or sums that cannot be."""
        facts = read_facts(card, _Facts)
        count = facts.dims * len(card.labels)
        if facts.dims < 1 or not 1 <= count <= MAX_VALUES:
            raise RemoteError(f"prototypes of {facts.dims} dimensions and {len(card.labels)} labels are over the limit")
        check_labels(card.labels, RemoteError)
        check_counts(card.labels, self.min_class_count, RemoteError)
        flat = bitpack.unpack_ints(only_blob(card, blobs, 8 * MAX_VALUES), count, facts.width)
        labels = tuple(sorted(card.labels))
        sums_dC = np.ascontiguousarray(flat.reshape(len(labels), facts.dims).T)
        counts_C = np.array([card.labels[label] for label in labels], np.int64)
        made = _made(labels, sums_dC, counts_C, check_digest(card.basis), facts.step_log2)
        check(made, RemoteError)
        return made


def describe(
    z_Nd: npt.NDArray[np.floating[Any]],
    y_N: Sequence[LabelId],
    *,
    basis: Digest,
    step_log2: int = STEP_LOG2,
    min_class_count: int = MIN_CLASS_COUNT,
) -> tuple[Prototypes, dict[LabelId, int]]:
    """Prototypes of embeddings, and how many samples of which label were withheld because they are too few to show.

    Args:
        z_Nd: finite embeddings, of any length; one of length 0 counts but adds nothing.
        y_N: label of each.
        basis: digest of the extractor.
        step_log2: fineness: coordinates of unit vectors are multiples of 2^-step_log2.
        min_class_count: least number of samples per label.

    Raises:
        ConfigError: shapes that do not fit, NaN or infinity, or a step outside 1 to 20.
    """
    if z_Nd.ndim != 2 or len(z_Nd) != len(y_N) or not np.isfinite(z_Nd).all() or not 1 <= step_log2 <= 20:
        raise ConfigError(f"z_Nd {z_Nd.shape} must be finite, [{len(y_N)}, d], and step_log2 {step_log2} from 1 to 20")
    kept, withheld = publishable(y_N, min_class_count, {})
    names = [y_N[index] for index in kept]
    labels = tuple(sorted(set(names)))
    q_Nd = np.rint(_unit(z_Nd[kept]) * 2.0**step_log2).astype(np.int64)
    columns = np.array([labels.index(name) for name in names], np.int64)
    sums_Cd = np.zeros((len(labels), z_Nd.shape[1]), np.int64)
    np.add.at(sums_Cd, columns, q_Nd)
    counts_C = np.bincount(columns, minlength=len(labels)).astype(np.int64)
    return _made(labels, np.ascontiguousarray(sums_Cd.T), counts_C, basis, step_log2), withheld


def merge(a: Prototypes, b: Prototypes) -> Prototypes:
    """The sum; labels meet by name. Associative and commutative. Raises ConfigError: another basis, step or dimension."""
    return _combined(a, b, 1)


def merge_all(packets: Iterable[Prototypes]) -> Prototypes:
    """The sum of one or more, in any order. Raises ConfigError: as `merge`, or there is none."""
    every = list(packets)
    if not every:
        raise ConfigError("nothing to merge: at least one packet is needed")
    return functools.reduce(merge, every)


def remove(a: Prototypes, b: Prototypes) -> Prototypes:
    """`a` without `b`: `remove(merge(a, b), b)` is `a`. Raises ConfigError: as `merge`, or `b` was never merged into `a`."""
    left = _combined(a, b, -1)
    emptied_C = left.counts_C == 0
    if (left.counts_C < 0).any() or left.sums_dC[:, emptied_C].any():
        raise ConfigError("removing it leaves fewer than no samples, or sums without samples: it was never merged")
    labels = tuple(name for name, gone in zip(left.labels, emptied_C, strict=True) if not gone)
    sums_dC = np.ascontiguousarray(left.sums_dC[:, ~emptied_C])
    return _made(labels, sums_dC, left.counts_C[~emptied_C], left.basis, left.step_log2)


def check(found: Prototypes, fault: Fault) -> None:
    """Every rule that needs nothing but the prototypes themselves.

    Raises:
        fault: shapes or dtypes that do not fit, labels not sorted, or a sum longer than its count of unit vectors.
    """
    d, width = found.sums_dC.shape if found.sums_dC.ndim == 2 else (0, 0)
    if found.sums_dC.dtype != np.int64 or found.counts_C.dtype != np.int64 or found.counts_C.shape != (width,):
        raise fault(f"sums_dC {found.sums_dC.shape} and counts_C {found.counts_C.shape} are int64 [d, C] and int64 [C]")
    if not 1 <= d * width <= MAX_VALUES or not 1 <= found.step_log2 <= 20:
        raise fault(f"prototypes of {d} dimensions, {width} labels and step 2^-{found.step_log2} cannot be")
    if list(found.labels) != sorted(set(found.labels)) or len(found.labels) != width:
        raise fault(f"{width} labels are needed, sorted, each once")
    check_labels(found.counts, fault)
    if int(found.counts_C.max()) > MAX_SUM >> found.step_log2:
        raise fault(f"{found.counts_C.max()} samples overflow sums of 64 bits")
    # Rounding moves each coordinate by half a step at most, so a unit vector may be longer by sqrt(d) / 2 steps.
    longest_C = found.counts_C * (2.0**found.step_log2 + np.sqrt(d) / 2)
    length_C = np.sqrt((found.sums_dC.astype(np.float64) ** 2).sum(axis=0))
    if (length_C > longest_C * (1 + 1e-9)).any():
        raise fault("a sum is longer than so many unit embeddings can be")


def _unit(z_Nd: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    wide_Nd = z_Nd.astype(np.float64)
    largest_N1 = np.abs(wide_Nd).max(axis=1, keepdims=True, initial=0.0)  # first, so that squares do not overflow
    scaled_Nd = wide_Nd / np.where(largest_N1 > 0, largest_N1, 1.0)
    length_N1 = np.sqrt((scaled_Nd**2).sum(axis=1, keepdims=True))
    unit_Nd: npt.NDArray[np.float64] = scaled_Nd / np.where(length_N1 > 0, length_N1, 1.0)
    return unit_Nd


def _combined(a: Prototypes, b: Prototypes, sign: int) -> Prototypes:
    if (a.basis, a.step_log2, len(a.sums_dC)) != (b.basis, b.step_log2, len(b.sums_dC)):
        raise ConfigError("prototypes of another basis, step or dimension do not add up")
    labels = tuple(sorted({*a.labels, *b.labels}))
    sums_dC, counts_C = np.zeros((len(a.sums_dC), len(labels)), np.int64), np.zeros(len(labels), np.int64)
    for part, factor in ((a, 1), (b, sign)):
        columns = [labels.index(name) for name in part.labels]
        sums_dC[:, columns] += factor * part.sums_dC
        counts_C[columns] += factor * part.counts_C
    if int(counts_C.max(initial=0)) > MAX_SUM >> a.step_log2:
        raise ConfigError(f"{counts_C.max()} samples overflow sums of 64 bits")
    return _made(labels, sums_dC, counts_C, a.basis, a.step_log2)


def _made(labels: tuple[LabelId, ...], sums_dC: IntArray, counts_C: IntArray, basis: Digest, step_log2: int) -> Prototypes:
    sums_dC.flags.writeable = counts_C.flags.writeable = False
    return Prototypes(labels, sums_dC, counts_C, basis, step_log2)
