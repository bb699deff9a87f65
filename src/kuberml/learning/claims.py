"""What knowledge scores by itself on a public probe: made by an author for a card's claim, run again by anybody.

Knowledge answers among *its own* labels: a claim on a label is the share of the probe's samples of that label for which the
knowledge, asked alone, names that label.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kuberml.core.errors import ConfigError
from kuberml.core.ids import LabelId
from kuberml.knowledge.fraud import recall_of
from kuberml.knowledge.kinds.extractor import Extractor, basis_of
from kuberml.knowledge.kinds.probe import Probe, probe_of
from kuberml.knowledge.kinds.prototypes import Prototypes
from kuberml.knowledge.kinds.soft_labels import SoftLabels
from kuberml.knowledge.kinds.statistics import Merged, Statistics, solve, sums_of
from kuberml.learning.extractors import features
from kuberml.learning.types import IntArray


def recall_ppm(content: Any, probe: Probe, extractor: Extractor | None = None) -> dict[LabelId, int]:
    """Recall of each label that the knowledge and the probe share, in parts per million, rounded down.

    Args:
        content: the opened value: `Statistics` (or a merge), `Prototypes` or `SoftLabels` about this probe.
        probe: with labels.
        extractor: the basis of statistics and prototypes.

    Raises:
        ConfigError: a probe without labels, knowledge that cannot answer by itself (weights need their learner), or a
            missing or wrong extractor.
    """
    if probe.y_N is None:
        raise ConfigError("the probe has no labels: nothing can be claimed on it")
    labels, ids_N, answer_N = _answers(content, probe, extractor)
    truth_N = probe.y_N[ids_N]
    names = np.array([probe.labels.index(label) if label in probe.labels else -1 for label in labels])
    right_N = names[answer_N] == truth_N
    shared = [label for label in labels if label in probe.labels]
    places = {label: probe.labels.index(label) for label in shared}
    right = {label: int(np.sum(right_N & (truth_N == place))) for label, place in places.items()}
    count = {label: int(np.sum(truth_N == place)) for label, place in places.items()}
    return recall_of(right, count)


def _answers(content: Any, probe: Probe, extractor: Extractor | None) -> tuple[tuple[LabelId, ...], IntArray, IntArray]:
    """(labels, which samples of the probe, which of the labels each is said to be)."""
    if isinstance(content, SoftLabels):
        if content.probe != probe_of(probe):
            raise ConfigError(f"these soft labels are about the probe {content.probe[:12]}, not {probe_of(probe)[:12]}")
        return content.labels, content.sample_ids_N.astype(np.int64), np.argmax(content.dense(), axis=1)
    if not isinstance(content, Statistics | Merged | Prototypes):
        raise ConfigError(f"{type(content).__name__} cannot answer by itself: it needs its learner")
    model = content if isinstance(content, Prototypes) else solve(sums_of(content))
    basis = content.basis if isinstance(content, Prototypes) else sums_of(content).basis
    if extractor is None or basis_of(extractor) != basis:
        raise ConfigError(f"the extractor {basis[:12]} is needed")
    scores_NC = model.scores(features(extractor, probe.inputs()))
    return model.labels, np.arange(len(probe)), np.argmax(scores_NC, axis=1)
