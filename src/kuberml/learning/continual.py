"""Measures of continual learning, as pure functions of the accuracy matrix R[t, i]: accuracy on task i after step t.

    A_T              mean over i of R[T, i]
    BWT              mean over the tasks before the last of R[T, i] - R[i, i]
    forgetting       mean over the same of max over t of R[t, i], less R[T, i]
    FWT              mean over the tasks after the first of R[i - 1, i] - what an untrained model answers
    gap to joint     A_T of a model trained on everything seen so far, less A_T

A task may arrive at any step, and several at once, so `R[i, i]` is read as: right after the step that brought task i. After
D. Lopez-Paz, M. Ranzato: Gradient Episodic Memory for Continual Learning, NeurIPS 2017 (BWT, FWT); A. Chaudhry et al.:
Riemannian Walk, ECCV 2018 (forgetting with the maximum; some libraries take the first value instead of the maximum).

BWT and forgetting mislead where classes are added: early tasks are scored against fewer classes, so training on everything
at once "forgets" too. The gap to joint does not: it is 0 exactly where nothing was lost.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from kuberml.core.errors import ConfigError
from kuberml.core.values import value

Matrix = npt.NDArray[np.float64]


@value
class Measures(msgspec.Struct, frozen=True):
    """See the top of the file; shares of right answers, 0..1. None where there are too few tasks to say."""

    accuracy: float | None
    backward_transfer: float | None
    forgetting: float | None
    forward_transfer: float | None
    gap_to_joint: float | None


def measures(
    accuracy_TI: Matrix, arrived_I: npt.NDArray[np.int64], joint_I: Matrix | None = None, untrained_I: Matrix | None = None
) -> Measures:
    """The measures after the last step, over the tasks that have arrived until then.

    Args:
        accuracy_TI: float64 [T, I], step by step, also of tasks that are still to come.
        arrived_I: int64 [I], the step (from 0) that brought each task; T or more: still to come, not counted.
        joint_I: accuracy of the model that saw everything, per task; None: unknown.
        untrained_I: accuracy of an untrained model per task; None: no forward transfer is given.

    Raises:
        ConfigError: shapes do not fit, or an accuracy of a task that has arrived is not 0..1.
    """
    steps, tasks = accuracy_TI.shape
    if arrived_I.shape != (tasks,) or (len(arrived_I) and int(arrived_I.min()) < 0):
        raise ConfigError(f"each of {tasks} tasks needs the step from 0 that brought it, not {arrived_I!r:.60}")
    seen = np.flatnonzero(arrived_I < steps)
    if not steps or not len(seen):
        return Measures(None, None, None, None, None)
    last_I = accuracy_TI[-1, seen]
    if not ((last_I >= 0) & (last_I <= 1)).all():
        raise ConfigError("the accuracies of tasks that have arrived are 0..1")
    old = [i for i in seen if arrived_I[i] < steps - 1]
    back = [accuracy_TI[-1, i] - accuracy_TI[arrived_I[i], i] for i in old]
    lost = [accuracy_TI[arrived_I[i] :, i].max() - accuracy_TI[-1, i] for i in old]
    ahead: list[float] = []
    if untrained_I is not None:
        ahead = [accuracy_TI[arrived_I[i] - 1, i] - untrained_I[i] for i in seen if arrived_I[i] > 0]
    gap = None if joint_I is None else float(np.mean(joint_I[seen] - last_I))
    return Measures(float(np.mean(last_I)), _mean(back), _mean(lost), _mean(ahead), gap)


def forgotten(accuracy_T: Matrix) -> float:
    """Of one task: the best of its accuracies, less the last; float64 [T], NaN where it is not known, known at least once."""
    known_T = accuracy_T[np.isfinite(accuracy_T)]
    return float(known_T.max() - known_T[-1])


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
