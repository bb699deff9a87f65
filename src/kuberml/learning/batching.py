"""Minibatches: how many, of what, in what order. Every adapter that trains in steps uses these, and so do estimates of cost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from kuberml.core.rng import rng
from kuberml.learning.types import FitPlan


def per_epoch(count: int, batch: int) -> int:
    """Batches in one pass over `count` samples. A rest of one sample joins the batch before: BatchNorm needs two."""
    return max(1, -(-(count - (batch > 1)) // batch)) if count else 0


def step_count(plan: FitPlan, hard: int, soft: int = 0) -> int:
    """Steps of a plan on `hard` samples and `soft` soft targets: an epoch passes over the larger set, the other repeats."""
    if not hard and not soft:
        return 0
    return plan.steps or plan.epochs * max(per_epoch(hard, plan.batch), per_epoch(soft, plan.batch))


def samples_seen(count: int, batch: int, steps: int) -> int:
    """How many samples, with repetition, `steps` batches hold: what training costs."""
    if not count:
        return 0
    passes, rest = divmod(steps, per_epoch(count, batch))
    return passes * count + rest * batch


def batches(count: int, batch: int, seed: int, name: str) -> Iterator[npt.NDArray[np.int64]]:
    """Endless batches of positions 0..count-1: every pass is a new permutation, cut in order. Empty batches for count 0."""
    if count == 0:
        yield from itertools.repeat(np.empty(0, np.int64))
    ends = [*(batch * place for place in range(1, per_epoch(count, batch))), count]
    for epoch in itertools.count():
        order_N = rng(seed, name, epoch).permutation(count)
        for start, stop in zip([0, *ends], ends, strict=False):
            yield order_N[start:stop]
