"""Statistics as bytes, nested: a byte prefix is a smaller packet.

Column j = 1..d-1 is the Gram entries G[1..j, j], then the class sums B[j, 0..C-1]. The first k columns are the statistics of
the first k features, so a reader with little budget fetches a byte range. Row and column 0 (the constant) are not sent: the
card's counts and the class sums give them, so they cannot contradict.

Two codings of a column, both lossless; `encode` takes fp16 whenever it can:
    fp16     entries divided by the number of samples, little-endian fp16: k(k+1)/2 + kC values of 2 bytes for k features.
             Possible for one author's packet of profile fp16; a merge of them has other quotients and is packed.
    packed   two bytes: bits per Gram entry and per class sum; then each group as `bitpack` writes it, padded to bytes.

A general compressor on top would save 6 to 13 % of packed columns (zstd 19, CIFAR-10) and cost the byte prefix; it is left out.
"""

from __future__ import annotations

import itertools
from math import isqrt
from typing import Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.knowledge.bitpack import pack_ints, packed_bytes, unpack_lists, width_of
from kuberml.knowledge.grid import IntArray
from kuberml.knowledge.moments import FP16_LOG2, Statistics, with_constant
from kuberml.knowledge.screening import check_entries

Coding: TypeAlias = Literal["fp16", "packed"]

FINE_FROM = 16 * 1024
"""From dims^2 on, there are cuts between the powers of two, so that no piece is much larger than its share."""

FINE_CUTS = 48

FREE_DIMS = 512
"""Beyond it, packed columns hold a bit per entry on average or are refused: a few kilobytes of columns of no bits at all would
otherwise unpack to gigabytes of zeros."""


def cut_dims(dims: int) -> tuple[int, ...]:
    """How many features the successive cuts of a packet of `dims` features hold: powers of two from 8, equal areas, all."""
    powers = {2**k for k in range(3, dims.bit_length()) if 2**k < dims}
    parts = min(FINE_CUTS, 2 * dims**2 // FINE_FROM)
    return tuple(sorted({*powers, *(isqrt(i * dims**2 // parts) for i in range(1, parts)), dims}))


def encode(stats: Statistics) -> tuple[bytes, tuple[int, ...], Coding]:
    """The columns, the byte ends of the prefixes of `cut_dims`, and the coding.

    Raises:
        ConfigError: more than FREE_DIMS features of which nearly all are 0.
    """
    gram_dd, sums_dC = stats.gram_dd[1:, 1:], stats.sums_dC[1:]
    halves = _as_fp16(stats)
    if halves is not None:
        k = len(gram_dd)
        lengths = [2 * (j + len(stats.labels)) for j in range(1, k + 1)]
        blob = _nested(*halves).astype("<f2").tobytes()
    else:
        columns = [_pack_column(gram_dd[j, : j + 1], sums_dC[j]) for j in range(len(gram_dd))]
        lengths, blob = [len(column) for column in columns], b"".join(columns)
        if _too_thin(len(blob), stats.dims, len(stats.labels)):
            raise ConfigError(f"nearly all of {stats.dims} features are 0 in every sample: use an extractor without them")
    ends = list(itertools.accumulate(lengths))
    return blob, tuple(ends[k - 1] for k in cut_dims(stats.dims)), "packed" if halves is None else "fp16"


def decode(blob: bytes, frame: Statistics, dims: int, coding: Coding) -> Statistics:
    """The statistics of the columns in `blob`: all `dims` of them, or the first ones if it ends after one.

    Args:
        blob: columns.
        frame: labels, counts, basis, units; its arrays of sums are ignored.
        dims: columns of the whole packet.
        coding: how they are written.

    Raises:
        RemoteError: it ends within a column, has more than dims, is not in canonical form, or an entry is over its bound.
    """
    gram_kk, sums_kC = (_read_fp16 if coding == "fp16" else _read_packed)(blob, frame, dims)
    check_entries(gram_kk, sums_kC, frame)
    k = len(gram_kk)
    gram_dd, sums_dC = np.zeros((k + 1, k + 1), np.int64), np.zeros((k + 1, len(frame.labels)), np.int64)
    gram_dd[1:, 1:], sums_dC[1:] = gram_kk, sums_kC
    return with_constant(msgspec.structs.replace(frame, sums_dC=sums_dC, gram_dd=gram_dd))


def _nested(gram_kk: npt.NDArray[np.float16], sums_kC: npt.NDArray[np.float16]) -> npt.NDArray[np.float16]:
    """Column order as one flat array: row j of [lower triangle | class sums]."""
    flat: npt.NDArray[np.float16] = np.hstack([gram_kk, sums_kC])[_mask(*sums_kC.shape)]
    return flat


def _mask(k: int, classes: int) -> npt.NDArray[np.bool_]:
    return np.hstack([np.tri(k, dtype=bool), np.ones((k, classes), bool)])


def _as_fp16(stats: Statistics) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.float16]] | None:
    """Gram matrix and class sums without the constant, divided by the number of samples, if fp16 holds them exactly."""
    if stats.profile != "fp16":
        return None
    parts = []
    for integers in (stats.gram_dd[1:, 1:], stats.sums_dC[1:]):
        quotient, rest = np.divmod(integers, stats.samples)
        with np.errstate(over="ignore"):  # infinity is not equal to the quotient: not fp16
            halves = (quotient / (1 << FP16_LOG2)).astype(np.float16)
        if rest.any() or (halves.astype(np.float64) * (1 << FP16_LOG2) != quotient).any():
            return None
        parts.append(halves)
    return parts[0], parts[1]


def _read_fp16(blob: bytes, frame: Statistics, dims: int) -> tuple[IntArray, IntArray]:
    classes = len(frame.labels)
    k = (isqrt((2 * classes + 1) ** 2 + 4 * len(blob)) - 2 * classes - 1) // 2
    if not 1 <= k <= dims or k * (k + 1 + 2 * classes) != len(blob):
        raise RemoteError(f"{len(blob)} bytes do not end after one of {dims} columns of fp16")
    flat = np.frombuffer(blob, "<f2")
    if not np.isfinite(flat).all() or (np.signbit(flat) & (flat == 0)).any():
        raise RemoteError("an entry is NaN, infinite or a negative zero")
    values = np.zeros((k, k + classes), np.float64)
    values[_mask(k, classes)] = flat
    integers = (values * (1 << FP16_LOG2)).astype(np.int64) * frame.samples
    return _symmetric(integers[:, :k]), integers[:, k:]


def _pack_column(gram_j: IntArray, sums_C: IntArray) -> bytes:
    widths = width_of(gram_j), width_of(sums_C)
    return bytes(widths) + pack_ints(gram_j, widths[0]) + pack_ints(sums_C, widths[1])


def _read_packed(blob: bytes, frame: Statistics, dims: int) -> tuple[IntArray, IntArray]:
    at, classes = 0, len(frame.labels)
    places: list[tuple[int, int]] = []  # of the Gram entries and of the class sums of each column
    widths: list[tuple[int, int]] = []
    while at < len(blob):
        k = len(places) + 1
        if k > dims or at + 2 > len(blob):
            raise RemoteError(f"{len(blob)} bytes do not end after one of {dims} packed columns")
        if _too_thin(len(blob), k, classes):
            raise RemoteError(f"{len(blob)} bytes hold fewer bits than {k} columns have entries")
        middle = at + 2 + packed_bytes(k, blob[at])
        places.append((at + 2, middle))
        widths.append((blob[at], blob[at + 1]))
        at = middle + packed_bytes(classes, blob[at + 1])
    if at != len(blob):
        raise RemoteError(f"{len(blob)} bytes do not end after one of {dims} packed columns")
    k = len(places)
    (rows, sums), (row_widths, sum_widths) = zip(*places, strict=True), zip(*widths, strict=True)
    lower_kk = np.zeros((k, k), np.int64)
    lower_kk[np.tri(k, dtype=bool)] = unpack_lists(blob, rows, range(1, k + 1), row_widths)
    return _symmetric(lower_kk), unpack_lists(blob, sums, [classes] * k, sum_widths).reshape(k, classes)


def _too_thin(size_bytes: int, k: int, classes: int) -> bool:
    return k > FREE_DIMS and 8 * size_bytes < k * (k + 1) // 2 + k * classes


def _symmetric(lower_kk: IntArray) -> IntArray:
    """The symmetric matrix of a lower triangle; zeros are above it."""
    whole_kk: IntArray = lower_kk + lower_kk.T
    whole_kk[np.diag_indices_from(whole_kk)] = np.diagonal(lower_kk)
    return whole_kk
