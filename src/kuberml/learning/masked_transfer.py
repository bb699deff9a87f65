"""Query-based knowledge transfer as jobs: what a teacher is an expert in, and learning from several through their masks.

Legend: N own samples, C labels, K teachers, M noise inputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kuberml.core.jobs import job
from kuberml.core.rng import rng
from kuberml.learning.datasets import samples
from kuberml.learning.jobs import training_flops
from kuberml.learning.learner import Learner, SoftTargets, State
from kuberml.learning.predictor import Network, log_softmax
from kuberml.learning.types import Array, DataRef, FitPlan, Samples

Mask = npt.NDArray[np.bool_]


@job(flops=lambda learner, state, shape, count, share, seed: learner.flops_per_sample * count)
def experts(learner: Learner, state: State, shape: tuple[int, ...], count: int, share: float, seed: int) -> Mask:
    """The labels that a model has learned, bool [C], read from its answers to noise: no data are needed, and none told.

    Those whose mean probability over `count` inputs, uniform in 0..1, is at least `share` of an even 1 / C.
    """
    x_M = rng(seed, "noise").random((count, *shape), dtype=np.float32)
    mean_C = np.exp(Network(learner, state).predict(x_M).astype(np.float64)).mean(axis=0)
    found: Mask = mean_C >= share / len(mean_C)
    return found


def masked(learner: Learner, teachers: list[State], masks: list[Mask], x_N: Array, *, temperature: float, alpha: float) -> Any:
    """Every teacher's answers about every sample, softened, over its mask alone: `SoftTargets` of K N rows."""
    rows = []
    for state, mask_C in zip(teachers, masks, strict=True):
        probs_NC = np.zeros((len(x_N), len(mask_C)), np.float32)
        probs_NC[:, mask_C] = np.exp(log_softmax(Network(learner, state).predict(x_N)[:, mask_C] / temperature))
        rows.append((probs_NC, np.tile(mask_C, (len(x_N), 1))))
    probs, mask = (np.concatenate(part) for part in zip(*rows, strict=True))
    return SoftTargets(np.concatenate([x_N] * len(teachers)), probs, mask, temperature, alpha)


def _flops(
    learner: Learner, _: State, data: DataRef, teachers: list[State], __: Any, x_N: Any, plan: FitPlan, *___: Any
) -> int:
    taught = len(teachers) * (len(data) if x_N is None else len(x_N))
    return learner.flops_per_sample * taught + 2 * training_flops(learner, plan, len(data), taught)


@job(flops=_flops)
def transfer(
    learner: Any,
    state: State,
    data: DataRef,
    teachers: list[State],
    masks: list[Mask],
    x_N: Array | None,
    plan: FitPlan,
    seed: int,
    temperature: float,
    alpha: float,
) -> State:
    """Both phases: masked distillation into the whole network, then its last layer alone, the features frozen.

    Each goes down (1 - alpha) CE(own samples) + alpha T² mean over teachers and samples of KL(teacher ‖ student over the mask).

    Args:
        learner, state: the student; refining is left out where a learner has no `refine_head`.
        data: its own samples.
        teachers, masks: K states of the same architecture, and the labels that each is an expert in: two or more.
        x_N: what teachers are asked about; None: the student's own samples.
        plan, seed: of each phase.
        temperature, alpha: see above.
    """
    own: Samples = samples(data)
    asked_N = own.x_N if x_N is None else x_N
    soft = masked(learner, teachers, masks, asked_N, temperature=temperature, alpha=alpha)
    taught = learner.fit(state, own, plan, seed, soft=soft)
    return learner.refine_head(taught, own, plan, seed, soft=soft) if hasattr(learner, "refine_head") else taught
