"""Integers as a dense stream of bits: each of them zigzag-coded (0, -1, 1, -2, ...) in the same number of bits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kuberml.core.errors import RemoteError

IntArray = npt.NDArray[np.int64]
_BITS = 64


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
    if not 0 <= width <= _BITS:
        raise RemoteError(f"integers of {width} bits")
    if len(data) != packed_bytes(count, width):
        raise RemoteError(f"{count} integers of {width} bits take {packed_bytes(count, width)} bytes, not {len(data)}")
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8))
    if bits[count * width :].any():
        raise RemoteError("the padding after packed integers is not zero")
    bits_N64 = np.zeros((count, _BITS), dtype=np.uint8)
    bits_N64[:, _BITS - width :] = bits[: count * width].reshape(count, width)
    integers_N = _unzigzag(np.packbits(bits_N64, axis=1).view(">u8").reshape(count).astype(np.uint64))
    if width_of(integers_N) != width:
        raise RemoteError(f"packed integers of {width} bits need only {width_of(integers_N)}")
    return integers_N


def _zigzag(integers_N: IntArray) -> npt.NDArray[np.uint64]:
    return ((integers_N << 1) ^ (integers_N >> 63)).view(np.uint64)


def _unzigzag(codes_N: npt.NDArray[np.uint64]) -> IntArray:
    one = np.uint64(1)
    return (codes_N >> one).view(np.int64) ^ -(codes_N & one).view(np.int64)
