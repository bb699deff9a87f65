"""Features on a grid of integers, and exact sums of their products.

Legend: N samples, d = 1 + features, C labels, B rows of a block; q = integer feature.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from kuberml.core.errors import ConfigError

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Features = npt.NDArray[np.floating]

INT64_MAX = 2**63 - 1
EXACT_FLOAT = 2**53
"""Integers up to this are exact in float64; so is a matrix product whose sums of absolute products stay below it."""

STEP_LOG2_MAX = 16
StepLog2 = Annotated[int, Meta(ge=0, le=STEP_LOG2_MAX)]
CLIP_LOG2_MAX = 26
"""q^2 must be far below EXACT_FLOAT."""

BLOCK_ROWS = 8192


@dataclass(frozen=True, slots=True)
class Grid:
    """Multiples of 2^-step_log2 from -clip to clip steps.

    Attributes:
        step_log2: 0 to 16.
        clip: largest |q|, at least 2^step_log2, so that the constant 1 is on the grid.

    Raises:
        ConfigError: outside these bounds, or q^2 is not exact in float64.
    """

    step_log2: int
    clip: int

    def __post_init__(self) -> None:
        if not 0 <= self.step_log2 <= STEP_LOG2_MAX:
            raise ConfigError(f"step_log2 must be 0 to {STEP_LOG2_MAX}, not {self.step_log2}")
        if not 1 << self.step_log2 <= self.clip < 1 << CLIP_LOG2_MAX:
            highest = 2.0 ** (CLIP_LOG2_MAX - self.step_log2)
            raise ConfigError(f"clip must be at least 1 and below {highest:g}, not {self.clip / 2**self.step_log2:g}")

    @classmethod
    def of(cls, clip: float, step_log2: int) -> Grid:
        """The grid for a clip in units of the feature. Raises ConfigError as the class does."""
        if not abs(clip) < float("inf"):
            raise ConfigError(f"clip must be a number, not {clip}")
        return cls(step_log2, int(clip * 2.0**step_log2))


def quantise(z_Nd: Features, grid: Grid) -> FloatArray:
    """The constant 1 and the features as integers in float64, [N, 1 + features]; ties are rounded to even."""
    q_Nd = np.empty((len(z_Nd), z_Nd.shape[1] + 1), np.float64)
    q_Nd[:, 0] = 1 << grid.step_log2
    np.multiply(z_Nd, 2.0**grid.step_log2, out=q_Nd[:, 1:], dtype=np.float64)
    return np.clip(np.rint(q_Nd, out=q_Nd), -grid.clip, grid.clip, out=q_Nd)


def exact_sums(z_Nd: Features, rows: list[int], one_hot_NC: FloatArray, grid: Grid) -> tuple[IntArray, IntArray]:
    """Class sums [d, C] and Gram matrix [d, d] of the quantised features of some rows, as exact integers.

    Float64 products of integers are exact while a block's sums stay below 2^53, whatever the order and the threads; the
    blocks are added in int64.

    Raises:
        ConfigError: the sums would overflow 64 bits.
    """
    if len(rows) * grid.clip**2 > INT64_MAX:
        raise ConfigError(f"{len(rows)} samples of |q| up to {grid.clip} overflow 64 bits: lower clip or step_log2")
    d = z_Nd.shape[1] + 1
    sums_dC, gram_dd = np.zeros((d, one_hot_NC.shape[1]), np.int64), np.zeros((d, d), np.int64)
    for start, stop in _blocks(len(rows), grid.clip):
        q_Bd = quantise(z_Nd[rows[start:stop]], grid)
        gram_dd += (q_Bd.T @ q_Bd).astype(np.int64)
        sums_dC += (q_Bd.T @ one_hot_NC[start:stop]).astype(np.int64)
    return sums_dC, gram_dd


def _blocks(count: int, clip: int) -> Iterator[tuple[int, int]]:
    size = max(1, min(BLOCK_ROWS, (EXACT_FLOAT - 1) // clip**2))
    for start in range(0, count, size):
        yield start, min(start + size, count)
