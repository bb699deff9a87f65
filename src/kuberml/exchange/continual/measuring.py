"""What a version's line in the history says: recalls on public samples, tasks in order of arrival, measures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kuberml.core.ids import LabelId
from kuberml.exchange.continual.history import Entry
from kuberml.learning.continual import Measures, measures


def tasks(versions: Sequence[tuple[LabelId, ...]]) -> list[tuple[int, tuple[LabelId, ...]]]:
    """Groups of labels that came together, in order: (step from 0 that brought it, labels). A label comes once."""
    known: set[LabelId] = set()
    found = []
    for step, labels in enumerate(versions):
        fresh = tuple(label for label in labels if label not in known)
        known.update(fresh)
        if fresh:
            found.append((step, fresh))
    return found


def measure(
    before: Sequence[Entry], labels: tuple[LabelId, ...], recall: dict[LabelId, float], joint: dict[LabelId, float]
) -> Measures | None:
    """The measures of a version over the tasks so far; None where no public samples tell.

    Accuracy on a task is the mean recall of its labels. An untrained model answers each label of the samples alike.
    """
    if not recall:
        return None
    groups = [(step, [label for label in group if label in recall]) for step, group in
              tasks([*(entry.labels for entry in before), labels])]  # fmt: skip
    groups = [(step, group) for step, group in groups if group]
    rows = [*(entry.recall for entry in before), recall]
    accuracy_TI = np.array([[_mean(row, group) for _, group in groups] for row in rows]).reshape(len(rows), len(groups))
    arrived_I = np.array([step for step, _ in groups], np.int64)
    joint_I = np.array([_mean(joint, group) for _, group in groups])
    return measures(accuracy_TI, arrived_I, joint_I, np.full(len(groups), 1 / len(recall)))


def _mean(row: dict[LabelId, float], group: Sequence[LabelId]) -> float:
    return float(np.mean([row.get(label, 0.0) for label in group]))
