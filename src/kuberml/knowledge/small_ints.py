"""Positions and levels, integers from 0 in few bits: 300 labels out of 10 need 150 bytes. Signed sums: see `bitpack`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kuberml.core.errors import InternalError, RemoteError

_CHUNK = 2**16  # values at a time: a multiple of 8, so that each chunk starts on a byte; bounds the memory for single bits

Ints = npt.NDArray[np.int64]


def width_of(maximum: int) -> int:
    """Bits that integers 0..maximum need (0 for a maximum of 0)."""
    return int(maximum).bit_length()


def size_of(count: int, width: int) -> int:
    """Bytes that `count` integers of `width` bits take."""
    return (count * width + 7) // 8


def pack(values: npt.NDArray[np.integer[Any]], width: int) -> bytes:
    """Integers 0 .. 2^width - 1 in reading order, least significant bit first, padded with zero bits to a whole byte.

    Raises:
        InternalError: one does not fit.
    """
    flat = values.reshape(-1).astype(np.int64)
    if flat.size and (int(flat.min()) < 0 or int(flat.max()).bit_length() > width):
        raise InternalError(f"integers {flat.min()}..{flat.max()} do not fit in {width} bits")
    place = np.arange(width)
    parts = (((flat[at : at + _CHUNK, None] >> place) & 1).astype(np.uint8) for at in range(0, flat.size, _CHUNK))
    return b"".join(np.packbits(part, bitorder="little").tobytes() for part in parts)


def unpack(data: bytes, count: int, width: int) -> Ints:
    """The integers of `pack`, int64 [count].

    Raises:
        RemoteError: not exactly the bytes that count and width ask for, or padding that is not zero.
    """
    if len(data) != size_of(count, width):
        raise RemoteError(f"{count} integers of {width} bits take {size_of(count, width)} bytes, not {len(data)}")
    packed = np.frombuffer(data, np.uint8)
    weight = np.int64(1) << np.arange(width, dtype=np.int64)
    values = np.zeros(count, np.int64)
    for at in range(0, count, _CHUNK):
        here = min(_CHUNK, count - at)
        start = at * width // 8
        bits = np.unpackbits(packed[start : start + size_of(here, width)], bitorder="little")
        if bits[here * width :].any():
            raise RemoteError("the padding of packed integers is not zero")
        values[at : at + here] = bits[: here * width].reshape(here, width) @ weight
    return values
