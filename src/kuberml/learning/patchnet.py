"""Features of images from one layer of filters, in whole numbers: the same bits on every machine, in any block size.

Pixels are rounded to `levels` steps and filters are int8 with zero sum, so a filter's answer to a patch is an integer below
2^24 and a float32 matrix product gives it exactly, whatever order or instructions the BLAS uses. The answer is divided by the
patch's spread (one correctly rounded operation each), rounded to an integer again, thresholded on both sides and summed over
the cells of a grid: exact too. That is what lets packets of different machines be relative to one basis.

The form is Coates, Ng and Lee's (AISTATS 2011): normalised patches, filters, soft threshold on both sides, mean-pooling.
With one side, a filter's answers above and below are one feature: an image and its negative look alike.

Legend: N images, H x W x C pixels, K = patch * patch * C, F filters, P cells of the grid, S sides, D = P S F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from kuberml.core.errors import ConfigError
from kuberml.learning.types import Array

GAIN = 4
"""Answers are kept in steps of 1/GAIN of a filter's unit; a filter's largest weight is near 127 units."""

_LARGEST = 128  # of an int8, without its sign
_EXACT = 2**24
_BLOCK_BYTES = 2**19  # of activations: they stay in a core's second-level cache


Side = Annotated[int, msgspec.Meta(ge=1, le=64)]


class Geometry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an image is cut and pooled; the bounds keep a peer's extractor from asking for the whole memory.

    Attributes:
        patch: side of the square patches, in pixels.
        channels: C.
        grid: cells along each side; P = grid².
        sides: S, 2 or 1.
        pad: pixels added on each side, copies of the edge.
        levels: a pixel of 1.0 is this many steps.
        floor_ppm: added to a patch's variance (of pixels 0..1), in millionths: keeps flat patches quiet.
    """

    patch: Side
    channels: Side = 1
    grid: Side = 2
    sides: Literal[1, 2] = 2
    pad: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0
    levels: Annotated[int, msgspec.Meta(ge=1, le=255)] = 255
    floor_ppm: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 10_000

    @property
    def window(self) -> int:
        """K, numbers in a patch."""
        return self.patch * self.patch * self.channels

    @property
    def largest(self) -> int:
        """No answer is further from 0 than this many steps."""
        return _LARGEST * GAIN * self.window

    def positions(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Rows and columns of patches in an image. Raises ConfigError: too small, too large for exact sums, not (H, W, C)."""
        shrink = 2 * self.pad - self.patch + 1
        if len(shape) != 3 or shape[2] != self.channels or min(shape[:2]) + shrink < self.grid:
            raise ConfigError(f"the extractor is for images (H, W, {self.channels}) of enough pixels, not {shape}")
        rows, columns = shape[0] + shrink, shape[1] + shrink
        cell = -(-rows // self.grid) * -(-columns // self.grid)
        if max(self.largest * cell, self.levels**2 * self.window) >= _EXACT:
            raise ConfigError(f"images of {shape} are too large for exact sums: use a finer grid or a smaller patch")
        return rows, columns

    def patches(self, x_N: Array) -> Array:
        """All patches of images, rounded to whole steps: float32 view [N, rows, columns, patch, patch, C]."""
        pixels_N = np.rint(x_N * np.float32(self.levels))
        if self.pad:
            edge = (self.pad, self.pad)
            pixels_N = np.pad(pixels_N, ((0, 0), edge, edge, (0, 0)), mode="edge")
        views = np.lib.stride_tricks.sliding_window_view(pixels_N, (self.patch, self.patch), axis=(1, 2))
        return views.transpose(0, 1, 2, 4, 5, 3)


@dataclass(frozen=True, slots=True)
class PatchNet:
    """x [N, H, W, C] -> z [N, D]; D is ordered by cell, side (above, below), filter.

    Attributes:
        filters_KF: int8, each column sums to 0.
        high_F, low_F: thresholds, whole numbers in steps of an answer: what counts is above high or below low.
        centre_D, scale_D: z = (pooled - centre) * scale.
    """

    geometry: Geometry
    filters_KF: npt.NDArray[np.int8]
    high_F: Array
    low_F: Array
    centre_D: Array
    scale_D: Array

    @property
    def dimensions(self) -> int:
        """D."""
        return self.geometry.sides * int(self.filters_KF.shape[1]) * self.geometry.grid**2

    def flops(self, shape: tuple[int, ...]) -> int:
        """Operations for one image: the products, and six for each answer."""
        rows, columns = self.geometry.positions(shape)
        return rows * columns * int(self.filters_KF.shape[1]) * (2 * self.geometry.window + 6)

    def __call__(self, x_N: Array) -> Array:
        """float32 [N, D]. Raises ConfigError: images of another shape than the extractor is for."""
        return self.standardised(self.pooled(x_N))

    def standardised(self, pooled_ND: Array) -> Array:
        """Pooled features by the public centre and spread, float32 [N, D]."""
        return (pooled_ND - self.centre_D) * self.scale_D

    def pooled(self, x_N: Array) -> Array:
        """Features before standardising, float32 [N, D]: mean excess over the thresholds in each cell."""
        rows, columns = self.geometry.positions(x_N.shape[1:])
        out_ND = np.empty((len(x_N), self.dimensions), np.float32)
        block = max(1, _BLOCK_BYTES // (4 * rows * columns * self.filters_KF.shape[1]))
        weights_KF = self.filters_KF.astype(np.float32)
        for start in range(0, len(x_N), block):
            answers = self._answers(x_N[start : start + block], weights_KF)
            out_ND[start : start + block] = self._pool(answers)
        return out_ND

    def _answers(self, x_B: Array, weights_KF: Array) -> Array:
        """Normalised answers in whole steps, float32 [B, rows, columns, F]."""
        patches = self.geometry.patches(x_B)
        window = self.geometry.window
        patches_MK = patches.reshape(-1, window)
        sum_M = patches_MK.sum(axis=1).astype(np.float64)
        square_M = np.einsum("mk,mk->m", patches_MK, patches_MK).astype(np.float64)
        variance_M = (window * square_M - sum_M**2) / window**2
        floor = self.geometry.floor_ppm / 1e6 * self.geometry.levels**2
        gain_M = (GAIN / np.sqrt(variance_M + floor)).astype(np.float32)
        answers_MF = patches_MK @ weights_KF
        answers_MF *= gain_M[:, None]
        np.rint(answers_MF, out=answers_MF)
        return answers_MF.reshape(*patches.shape[:3], -1)

    def _pool(self, answers: Array) -> Array:
        """Mean excess over the thresholds in each cell, float32 [B, D]. Until the division, all are whole numbers."""
        batch, rows, columns, _ = answers.shape
        edges = _edges(rows, self.geometry.grid), _edges(columns, self.geometry.grid)
        count_PP1 = np.outer(*(np.diff(axis) for axis in edges)).astype(np.float32)[..., None]
        above = _cell_sums(np.maximum(answers, self.high_F), *edges) - count_PP1 * self.high_F
        below = count_PP1 * self.low_F - _cell_sums(np.minimum(answers, self.low_F), *edges)
        excess: Array = np.stack([above, below], axis=3) if self.geometry.sides == 2 else (above + below)[:, :, :, None]
        excess /= count_PP1[..., None]
        return excess.reshape(batch, -1)


def _edges(length: int, cells: int) -> list[int]:
    return [length * cell // cells for cell in range(cells + 1)]


def _cell_sums(values: Array, row_edges: list[int], column_edges: list[int]) -> Array:
    """Sums of [B, rows, columns, F] over the cells of a grid: [B, cells, cells, F]."""
    bands = [values[:, top:bottom].sum(axis=1) for top, bottom in pairwise(row_edges)]
    return np.stack([np.stack([band[:, a:b].sum(axis=1) for a, b in pairwise(column_edges)], axis=1) for band in bands], axis=1)
