"""A head as a package: what a light receiver fetches in place of the statistics that it was solved from.

It is a thousandth of their bytes and answers the same; but it cannot be added to, subtracted from, or taken apart again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import LabelId
from kuberml.knowledge.grid import Grid
from kuberml.knowledge.kinds.statistics import Head
from kuberml.knowledge.kinds.weights import Weights

_TENSORS = ("grid", "head", "ridge")


def packed(head: Head, counts: dict[LabelId, int] | None = None) -> Weights:
    """The head as weights relative to its extractor; `counts`: samples of each label behind it."""
    grid = np.array([head.step_log2, head.clip], np.int64)
    tensors = {"head": head.weights_dC, "grid": grid, "ridge": np.array([head.ridge])}
    return Weights(tensors, counts or {}, head.labels, basis=head.basis)


def unpacked(weights: Any) -> Head:
    """The head of `packed`.

    Raises:
        RemoteError: these weights are not a head.
    """
    if not isinstance(weights, Weights):
        raise RemoteError(f"a head comes as weights, not as {type(weights).__name__}")
    tensors, labels = weights.tensors, weights.outputs
    if weights.basis is None or tuple(sorted(tensors)) != _TENSORS or len(labels) < 1:
        raise RemoteError("weights that are not a head on an extractor")
    head_dC, grid, ridge = tensors["head"], tensors["grid"], tensors["ridge"]
    if head_dC.dtype != np.float64 or head_dC.ndim != 2 or len(head_dC) < 2 or head_dC.shape[1] != len(labels):
        raise RemoteError(f"a head is float64 [d, {len(labels)}], not {head_dC.dtype} {head_dC.shape}")
    if grid.dtype != np.int64 or grid.shape != (2,) or ridge.dtype != np.float64 or ridge.shape != (1,):
        raise RemoteError("a head comes with two integers (step_log2, clip) and its ridge")
    step_log2, clip = (int(number) for number in grid)
    try:
        Grid(step_log2, clip)
    except ConfigError as error:
        raise RemoteError(f"the grid of a head: {error}") from error
    return Head(head_dC, labels, float(ridge[0]), weights.basis, step_log2, clip)
