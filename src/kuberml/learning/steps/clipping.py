"""Clipping by the Euclidean norm, which bounds what one client can do and what its noise must hide."""

from __future__ import annotations

import numpy as np

from kuberml.learning.types import Array


def norm(values_P: Array) -> float:
    """The Euclidean norm, in float64."""
    return float(np.linalg.norm(values_P.astype(np.float64)))


def clip(values_P: Array, limit: float) -> Array:
    """X min(1, limit / |x|), float32 [P]. Its norm is never over the limit, whatever float32 rounds."""
    length = norm(values_P)
    if length <= limit:
        return values_P
    clipped_P = (values_P * (limit / length)).astype(np.float32)
    excess = norm(clipped_P) / limit  # float32 rounds, sometimes up
    return clipped_P if excess <= 1 else np.nextafter((clipped_P / excess).astype(np.float32), np.float32(0))
