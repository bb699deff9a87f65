"""Jobs that make the evidence of a trial: how knowledge answers alone, and what it would change."""

from __future__ import annotations

from typing import Any

import numpy as np

from kuberml.core.ids import LabelId
from kuberml.core.jobs import job
from kuberml.exchange.trial import Change, Tally
from kuberml.learning.datasets import samples
from kuberml.learning.types import Array, DataRef, IntArray, Samples


def _flops(*values: Any) -> int:
    data = next(item for item in values if isinstance(item, DataRef))
    return sum(int(getattr(item, "flops_per_sample", 0)) for item in values) * len(data)


@job(flops=_flops)
def change(before: Any, after: Any, data: DataRef) -> Change:
    """What absorbing would change on held-out data: answers of two predictors, paired by sample."""
    local = samples(data)
    was, is_now = _right(before, local), _right(after, local)
    classes = len(local.labels)
    return Change(
        local.labels,
        np.bincount(local.y_N[~was & is_now], minlength=classes),
        np.bincount(local.y_N[was & ~is_now], minlength=classes),
        np.bincount(local.y_N, minlength=classes),
    )


@job(flops=_flops)
def alone(predictor: Any, data: DataRef, labels: tuple[LabelId, ...]) -> dict[LabelId, list[int]]:
    """How a predictor made from one package answers held-out samples of `labels`, choosing among its own labels only.

    Returns:
        label -> [right answers, samples], for the labels that both have. {} for a predictor of one label: it is always right.
    """
    if len(predictor.labels) < 2:
        return {}
    local = samples(data)
    shared = [label for label in labels if label in predictor.labels and label in local.labels]
    places = [local.labels.index(label) for label in shared]
    if not np.isin(local.y_N, places).any():
        return {}
    right = _right(predictor, local)  # of all: their features are known from other trials
    return {
        label: [int(np.sum(right & (local.y_N == place))), int(np.sum(local.y_N == place))]
        for label, place in zip(shared, places, strict=True)
        if np.any(local.y_N == place)
    }


def tallies(counts: dict[LabelId, list[int]]) -> dict[LabelId, Tally]:
    """The answer of `alone` as the trial wants it."""
    return {label: Tally(correct, count) for label, (correct, count) in counts.items()}


def _right(predictor: Any, part: Samples) -> Any:
    if not len(part):
        return np.zeros(0, bool)
    scores_NC: Array = predictor.predict(part.x_N)
    answer: IntArray = np.argmax(scores_NC, axis=1)
    names = np.array([part.labels.index(label) if label in part.labels else -1 for label in predictor.labels])
    return names[answer] == part.y_N
