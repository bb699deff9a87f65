"""scikit-learn estimators by name, and what they can do. The one place that imports scikit-learn."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import inspect
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from kuberml.core import values
from kuberml.core.errors import ConfigError, MissingExtra
from kuberml.core.rng import rng


def make(name: str, params: Mapping[str, Any], seed: int) -> Any:
    """A new, unfitted estimator.

    Args:
        name: "package.module:Class" of the user's own scenario or code, for instance "sklearn.svm:SVC". Never from a peer.
        params: keyword arguments of the class.
        seed: becomes its `random_state` where it has one that `params` leave open.

    Raises:
        ConfigError: nothing importable, no classifier, or parameters that it does not have.
        MissingExtra: scikit-learn is not installed.
    """
    if importlib.util.find_spec("sklearn") is None:
        raise MissingExtra(f"the estimator {name!r}", "sklearn")
    module, _, attribute = name.partition(":")
    try:
        maker = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"estimator {name!r} is not 'package.module:Class': {error}") from error
    try:
        estimator = maker(**params)
    except TypeError as error:
        raise ConfigError(f"estimator {name!r} does not take {dict(params)}: {error}") from error
    if not (hasattr(estimator, "fit") and hasattr(estimator, "get_params") and hasattr(estimator, "predict")):
        raise ConfigError(f"estimator {name!r} is no classifier with fit, predict and get_params")
    if "random_state" in estimator.get_params(deep=False) and "random_state" not in params:
        estimator.set_params(random_state=seed % 2**32)
    return estimator


def takes(estimator: Any, argument: str) -> bool:
    """Whether `estimator.fit` has such an argument."""
    return argument in inspect.signature(estimator.fit).parameters


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without scikit-learn's warnings: a limit on iterations is a plan here, and a label without samples is usual."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def is_linear(name: str, params: Mapping[str, Any]) -> bool:
    """Whether its answers are x · coefᵀ + intercept with one row a label; found out once by fitting it on thirty points."""
    return _is_linear(name, values.dumps(dict(params)))


@functools.lru_cache(maxsize=64)
def _is_linear(name: str, params: bytes) -> bool:
    estimator = make(name, values.loads(params), 0)
    y_N = np.arange(30) % 3
    x_ND = rng(0, "is-linear").normal(size=(30, 4)) + 3 * np.eye(4)[y_N]
    try:
        with quiet():
            estimator.fit(x_ND, y_N)
            coef, intercept = np.asarray(estimator.coef_), np.asarray(estimator.intercept_)
            answers_NC = estimator.decision_function(x_ND)
    except Exception:
        return False  # whatever it is, these thirty points cannot show that it is linear
    return coef.shape == (3, 4) and intercept.shape == (3,) and np.allclose(answers_NC, x_ND @ coef.T + intercept)
