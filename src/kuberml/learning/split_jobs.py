"""The work of split learning as jobs: each end of a cut goes forward, and later forward again, back and one step down.

Data by reference, batches as positions in them (`batching.batches`). A job that goes back first goes forward again, which is
counted: 1 + 3 passes for a part whose answer is needed before its gradient, 3 for the last, whose two ways are one job.
Legend: B samples of a batch, F weights of a part.
"""

from __future__ import annotations

import numpy as np

from kuberml.core.jobs import job
from kuberml.learning.datasets import samples
from kuberml.learning.jobs import TRAINING
from kuberml.learning.split import Split
from kuberml.learning.torch_learner import targets
from kuberml.learning.types import Array, DataRef, FitPlan, IntArray, Samples

Moved = tuple[Array, Array, Array]
"""A part's weights [F] and velocity after a step, and the gradient of its input [B, ...]."""


@job(flops=lambda parts, weights_F, data, rows_B, seed: parts.flops("front") * len(rows_B))
def look(parts: Split, weights_F: Array, data: DataRef, rows_B: IntArray, seed: int) -> tuple[Array, IntArray]:
    """What the front makes of a batch of private samples, float32 [B, ...], and their labels' positions, int64 [B]."""
    answers_B = _forward(parts, "front", weights_F, _inputs(parts, data, rows_B), seed)
    return answers_B, _targets(parts, data, rows_B)


@job(flops=lambda parts, weights_F, velocity_F, data, rows_B, *_: TRAINING * parts.flops("front") * len(rows_B))
def learn_front(
    parts: Split, weights_F: Array, velocity_F: Array, data: DataRef, rows_B: IntArray, down_B: Array, plan: FitPlan, seed: int
) -> Moved:
    """One step of the front, from the gradient of what it answered. The gradient of private samples stays here."""
    x_B = _inputs(parts, data, rows_B)
    return _step(parts, "front", weights_F, velocity_F, x_B, down_B, plan, seed)


@job(flops=lambda parts, weights_F, x_B, seed: parts.flops("body") * len(x_B))
def pass_body(parts: Split, weights_F: Array, x_B: Array, seed: int) -> Array:
    """What the body makes of what a front answered, where the labels are elsewhere."""
    return _forward(parts, "body", weights_F, x_B, seed)


@job(flops=lambda parts, weights_F, velocity_F, x_B, *_: TRAINING * parts.flops("body") * len(x_B))
def learn_body(
    parts: Split, weights_F: Array, velocity_F: Array, x_B: Array, down_B: Array | IntArray, plan: FitPlan, seed: int
) -> Moved:
    """One step of the body, from targets (it is the last part) or from the gradient of what it answered."""
    return _step(parts, "body", weights_F, velocity_F, x_B, down_B, plan, seed)


@job(flops=lambda parts, weights_F, velocity_F, x_B, *_: TRAINING * parts.flops("tail") * len(x_B))
def learn_tail(
    parts: Split, weights_F: Array, velocity_F: Array, x_B: Array, data: DataRef, rows_B: IntArray, plan: FitPlan, seed: int
) -> Moved:
    """One step of the tail, beside the labels."""
    down_B = _targets(parts, data, rows_B)
    return _step(parts, "tail", weights_F, velocity_F, x_B, down_B, plan, seed)


def _inputs(parts: Split, data: DataRef, rows_B: IntArray) -> Array:
    own: Samples = samples(data)
    return np.ascontiguousarray(own.x_N[rows_B], np.float32)


def _targets(parts: Split, data: DataRef, rows_B: IntArray) -> IntArray:
    return targets(parts.learner.labels, samples(data))[rows_B]


def _forward(parts: Split, name: str, weights_F: Array, x_B: Array, seed: int) -> Array:
    from kuberml.learning import torch_split  # imports torch, which only a worker needs

    return torch_split.forward(parts.part(name), weights_F, x_B, seed)


def _step(
    parts: Split, name: str, weights_F: Array, velocity_F: Array, x_B: Array, down_B: Array | IntArray, plan: FitPlan, seed: int
) -> Moved:
    from kuberml.learning import torch_split

    stepped = torch_split.step(parts.part(name), weights_F, velocity_F, x_B, down_B, plan, seed)
    return stepped.weights_F, stepped.velocity_F, stepped.gradient_B
