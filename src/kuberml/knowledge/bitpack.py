"""Integers as a dense stream of bits: each of them zigzag-coded (0, -1, 1, -2, ...) in the same number of bits.

Legend: N integers, L lists of them, M bytes or integers in all, W 64-bit words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from kuberml.core.errors import RemoteError

IntArray = npt.NDArray[np.int64]
_Codes = npt.NDArray[np.uint64]
_BITS = 64
GROUP = 1 << 17
"""Integers that are unpacked at once: their temporary arrays stay in the cache."""


def width_of(integers_N: IntArray) -> int:
    """Bits that each of these integers needs, 0 (all are zero) to 64."""
    return int(_zigzag(integers_N).max(initial=0)).bit_length()


def packed_bytes(count: int, width: int) -> int:
    """Bytes of `count` integers of `width` bits: the last byte is padded with zero bits."""
    return (count * width + 7) // 8


def pack_ints(integers_N: IntArray, width: int) -> bytes:
    """The integers in `width` bits each, most significant bit first. `width` is at least `width_of(integers_N)`."""
    bytes_N8 = _zigzag(integers_N).astype(">u8").view(np.uint8).reshape(-1, 8)
    bits_NW = np.unpackbits(bytes_N8, axis=1)[:, _BITS - width :]
    return np.packbits(bits_NW).tobytes()


def unpack_ints(data: bytes | memoryview, count: int, width: int) -> IntArray:
    """The `count` integers of `pack_ints`, int64 [count].

    One list of integers has one form: other padding than zeros, or a width that is larger than needed, is refused.

    Raises:
        RemoteError: not that form, or not that many bytes.
    """
    if 0 <= width <= _BITS and len(data) != packed_bytes(count, width):
        raise RemoteError(f"{count} integers of {width} bits take {packed_bytes(count, width)} bytes, not {len(data)}")
    return unpack_lists(data, [0], [count], [width])


def unpack_lists(data: bytes | memoryview, starts: Sequence[int], counts: Sequence[int], widths: Sequence[int]) -> IntArray:
    """Several such lists that lie in `data`, one after the other in the answer: int64 [sum of counts].

    It takes them in groups of GROUP integers, so that few calls do the work and little memory is used beside the answer.

    Args:
        data: bytes.
        starts: byte where each list begins; each ends within `data`.
        counts, widths: of each list, see `unpack_ints`.

    Raises:
        RemoteError: not that form.
    """
    found_M = np.empty(sum(counts), np.int64)
    words_W = np.frombuffer(bytes(data) + bytes(24 - len(data) % 8), ">u8").astype(np.uint64)
    done = 0
    for group in _groups(counts):
        at_L, count_L, width_L = (np.array(each[group], np.int64) for each in (starts, counts, widths))
        if ((width_L < 0) | (width_L > _BITS)).any():
            raise RemoteError(f"integers of {width_L[(width_L < 0) | (width_L > _BITS)][0]} bits")
        _check_padding(np.frombuffer(data, np.uint8), at_L, count_L, width_L)
        codes_N = _codes(words_W, at_L, count_L, width_L)
        _check_widths(codes_N, count_L, width_L)
        found_M[done : done + len(codes_N)] = _unzigzag(codes_N)
        done += len(codes_N)
    return found_M


def _groups(counts: Sequence[int]) -> Iterator[slice]:
    start = total = 0
    for place, count in enumerate(counts):
        if total and total + count > GROUP:
            yield slice(start, place)
            start, total = place, 0
        total += count
    yield slice(start, len(counts))


def _codes(words_W: _Codes, at_L: IntArray, count_L: IntArray, width_L: IntArray) -> _Codes:
    """The codes of a group: each lies in the 64-bit word where its first bit is, and in the next."""
    before_L = np.cumsum(count_L) - count_L
    bit_N = np.arange(int(count_L.sum())) * np.repeat(width_L, count_L)
    bit_N += np.repeat(8 * at_L - before_L * width_L, count_L)
    word_N = bit_N >> 6
    bit_N &= 63
    shift_N = bit_N.view(np.uint64)
    codes_N = words_W.take(word_N)
    codes_N <<= shift_N
    word_N += 1
    low_N = words_W.take(word_N)
    low_N >>= np.uint64(1)  # and 63 - shift more: a shift by all of 64 bits is none
    np.subtract(np.uint64(63), shift_N, out=shift_N)
    low_N >>= shift_N
    codes_N |= low_N
    codes_N >>= np.repeat((_BITS - np.maximum(width_L, 1)).astype(np.uint64), count_L)
    codes_N[np.repeat(width_L == 0, count_L)] = 0
    return codes_N


def _check_padding(bytes_M: npt.NDArray[np.uint8], at_L: IntArray, count_L: IntArray, width_L: IntArray) -> None:
    size_L = (count_L * width_L + 7) // 8
    some_L = size_L > 0
    last_L = bytes_M[(at_L + size_L - 1)[some_L]]
    if (last_L & ((1 << (8 * size_L - count_L * width_L)[some_L]) - 1)).any():
        raise RemoteError("the padding after packed integers is not zero")


def _check_widths(codes_N: _Codes, count_L: IntArray, width_L: IntArray) -> None:
    """Check that the largest code of each list needs its width."""
    needs_L = np.zeros(len(count_L), np.int64)
    some_L = count_L > 0
    if some_L.any():
        most_L = np.maximum.reduceat(codes_N, (np.cumsum(count_L) - count_L)[some_L])
        needs_L[some_L] = [int(most).bit_length() for most in most_L]
    if (wrong_L := needs_L != width_L).any():
        raise RemoteError(f"packed integers of {width_L[wrong_L][0]} bits need only {needs_L[wrong_L][0]}")


def _zigzag(integers_N: IntArray) -> _Codes:
    return ((integers_N << 1) ^ (integers_N >> 63)).view(np.uint64)


def _unzigzag(codes_N: _Codes) -> IntArray:
    one = np.uint64(1)
    return (codes_N >> one).view(np.int64) ^ -(codes_N & one).view(np.int64)
