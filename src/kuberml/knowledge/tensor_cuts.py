"""Where a blob of tensors is cut: at the tensors, so that what a receiver has of another version is not sent again.

The header is a piece of its own; a large tensor is cut further, from its own beginning; small neighbours share a piece. A piece
is named by its hash wherever it lies, so a retrained head or an added adapter costs itself and the header.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from kuberml.knowledge.pieces import PIECE_MAX_BYTES, PIECE_MIN_BYTES, SHARED_MIN_BYTES

GROUP_MIN_BYTES = 4 * 1024
"""Smaller neighbours are put together."""
PIECES_MAX = 2048
"""Of one blob of tensors; where there are more tensors, more of them are put together."""
_STEP = 4
"""Sizes of pieces go in steps: a version that is a little larger has the same cuts."""
_LEAST_SHARE = 128
"""A piece is at most this part of its blob: less than 1 % is lost with it."""


def cut_at_tensors(ends: Sequence[int]) -> tuple[int, ...]:
    """Ends of the pieces of a blob whose header ends at ends[0] and whose tensors end at the following ones; () = by size.

    A blob of one tensor, or a small one, is cut by size: nothing in it could be kept.
    """
    bounds = sorted(set(ends))
    if len(bounds) < 3 or bounds[-1] <= SHARED_MIN_BYTES:
        return ()
    most_bytes = piece_bytes(bounds[-1])
    group_bytes = GROUP_MIN_BYTES
    while True:
        cuts = tuple(_split(_grouped(bounds, group_bytes), most_bytes))
        if len(cuts) <= PIECES_MAX:
            return cuts
        group_bytes *= 2


def piece_bytes(size_bytes: int) -> int:
    """The largest piece of a blob of this size: PIECE_MIN_BYTES times a power of 4, up to PIECE_MAX_BYTES."""
    largest = PIECE_MIN_BYTES
    while largest * _STEP * _LEAST_SHARE <= size_bytes and largest < PIECE_MAX_BYTES:
        largest *= _STEP
    return min(largest, PIECE_MAX_BYTES)


def _grouped(bounds: Sequence[int], group_bytes: int) -> Iterable[tuple[int, int]]:
    """The header, then tensors; neighbours together while both are smaller than group_bytes."""
    yield 0, bounds[0]
    start = bounds[0]
    for before, stop in pairwise(bounds):
        if stop - before >= group_bytes:  # a tensor that stands alone ends the group before it
            if before > start:
                yield start, before
            yield before, stop
            start = stop
        elif stop - start >= group_bytes:
            yield start, stop
            start = stop
    if start < bounds[-1]:
        yield start, bounds[-1]


def _split(ranges: Iterable[tuple[int, int]], most_bytes: int) -> Iterable[int]:
    for start, stop in ranges:
        yield from range(start + most_bytes, stop, most_bytes)
        yield stop
