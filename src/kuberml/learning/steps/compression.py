"""Compression of an update: few of its values, or few bits of each. What is left out is carried to the next update.

Top-k with error feedback: S. U. Stich, J.-B. Cordonnier, M. Jaggi: Sparsified SGD with Memory. NeurIPS 2018: send
comp(x + e), keep e <- x + e - comp(x + e). Stochastic rounding: D. Alistarh, D. Grubic, J. Li, R. Tomioka, M. Vojnovic: QSGD.
NeurIPS 2017; here with the largest value for the scale, not the norm.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from kuberml.core.rng import rng
from kuberml.learning.types import Array

Positions = npt.NDArray[np.uint32]
Codes = npt.NDArray[np.int8]


def largest(values_P: Array, fraction: float) -> Positions:
    """Rising places of the ceil(fraction P) values with the largest size, uint32 [k]; of equal ones the first."""
    k = max(1, math.ceil(fraction * values_P.size))
    return np.sort(np.argsort(-np.abs(values_P), kind="stable")[:k]).astype(np.uint32)


def common(count: int, fraction: float, seed: int) -> Positions:
    """Rising places of ceil(fraction count) values drawn from a seed that everybody has, uint32 [k]."""
    k = max(1, math.ceil(fraction * count))
    return np.sort(rng(seed, "support").choice(count, k, replace=False)).astype(np.uint32)


def only(values_P: Array, places_k: Positions) -> Array:
    """The vector with zeros everywhere but at these places, float32 [P]."""
    kept_P = np.zeros_like(values_P)
    kept_P[places_k] = values_P[places_k]
    return kept_P


def quantise(values_P: Array, bits: int, seed: int) -> tuple[Codes, np.float32]:
    """(codes of -(2^(bits-1) - 1) .. 2^(bits-1) - 1, int8 [P]; what one is worth). Their product is unbiased: on average x."""
    top = 2 ** (bits - 1) - 1
    # Up to the next float32, so that no code is over the top; never 0, also of a vector of zeros.
    scale = np.nextafter(np.float32(np.abs(values_P).max(initial=0) / top), np.float32(np.inf))
    draw_P = rng(seed, "quantise").random(values_P.shape)
    codes_P = np.floor(values_P.astype(np.float64) / np.float64(scale) + draw_P)
    return np.clip(codes_P, -top, top).astype(np.int8), scale
