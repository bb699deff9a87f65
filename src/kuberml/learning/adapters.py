"""Learners by configuration: which adapter, which architecture, for which data set."""

from __future__ import annotations

from typing import Any, Protocol

from kuberml.core.errors import ConfigError
from kuberml.learning.datasets import Dataset
from kuberml.learning.learner import Learner


class LearnerOptions(Protocol):
    """The fields of a scenario's `[learners]` that decide what learns."""

    adapter: Any
    models: tuple[str, ...]
    estimator: str
    params: dict[str, Any]


def make_learner(options: LearnerOptions, dataset: Dataset, common: str | None, position: int) -> Learner:
    """The learner at a position: `models` are dealt in turn, or everybody gets `common`.

    Raises:
        ConfigError: scikit-learn without an estimator; and what the adapter refuses.
    """
    if options.adapter == "sklearn":
        from kuberml.learning.sklearn_learner import SklearnLearner

        if not options.estimator:
            raise ConfigError("learners.estimator is empty; write for instance 'sklearn.linear_model:LogisticRegression'")
        return SklearnLearner(options.estimator, dataset.labels, dict(options.params))
    from kuberml.learning.torch_learner import TorchLearner

    architecture = common or options.models[position % len(options.models)]
    return TorchLearner(architecture, dataset.shape, dataset.labels)
