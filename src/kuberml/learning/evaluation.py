"""How good a predictor is on samples, per label, in exact integers. Labels meet by name, not by position."""

from __future__ import annotations

import numpy as np

from kuberml.learning.predictor import Predictor
from kuberml.learning.types import Samples, Scores


def score(predictor: Predictor, samples: Samples) -> Scores:
    """Right answers per label of the samples.

    A predictor that lacks a label never answers it: its samples count, none is right. One that has labels the samples' task
    does not know may answer them: that is wrong too. A tie goes to the label that stands first in the predictor.

    Returns:
        Scores over `samples.labels`.
    """
    classes = len(samples.labels)
    count_C = np.bincount(samples.y_N, minlength=classes).astype(np.int64)
    if not len(samples):
        return Scores(samples.labels, np.zeros(classes, np.int64), count_C)
    place = {name: position for position, name in enumerate(samples.labels)}
    named_C = np.array([place.get(name, -1) for name in predictor.labels], np.int64)
    answer_N = named_C[predictor.predict(samples.x_N).argmax(axis=1)]
    right_N = samples.y_N[answer_N == samples.y_N]
    return Scores(samples.labels, np.bincount(right_N, minlength=classes).astype(np.int64), count_C)
