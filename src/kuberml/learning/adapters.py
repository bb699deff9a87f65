"""Learners for a data set, by name. The adapter's framework is imported only here, when it is asked for."""

from __future__ import annotations

from typing import Any

from kuberml.core.errors import ConfigError
from kuberml.learning.datasets import Dataset
from kuberml.learning.learner import Learner


def torch_learner(architecture: str, dataset: Dataset, options: dict[str, Any], device: str = "cpu") -> Learner:
    """A network of a registered architecture, or of the user's own ("package.module:Class").

    Raises:
        ConfigError: unknown architecture. MissingExtra: torch is not installed.
    """
    from kuberml.learning.torch_learner import TorchLearner

    return TorchLearner(architecture, dataset.shape, dataset.labels, options, device)


def scikit_learner(estimator: str, params: dict[str, Any], dataset: Dataset) -> Learner:
    """A scikit-learn classifier of the user's own scenario.

    Raises:
        ConfigError: no estimator is named. MissingExtra: scikit-learn is not installed.
    """
    from kuberml.learning.sklearn_learner import SklearnLearner

    if not estimator:
        raise ConfigError("learners.estimator is empty; write for instance 'sklearn.linear_model:LogisticRegression'")
    return SklearnLearner(estimator, dataset.shape, dataset.labels, params)
