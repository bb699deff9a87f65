"""The scikit-learn adapter of `Learner`: any classifier of the user's own scenario, by name. No pickle anywhere.

Two sorts of states, both plain values. An estimator that answers x · coefᵀ + intercept with one row a label has its
coefficients as one float32 vector [C D + C]: it can be averaged. Any other has a *recipe*: the rows and the seed that it is
fitted on. The fitted estimator is a pure function of the recipe and is remembered by each process; a recipe holds private
samples, so it never leaves its node's memory.
"""

from __future__ import annotations

import functools
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from kuberml.core import values
from kuberml.core.errors import ConfigError
from kuberml.core.ids import LabelId
from kuberml.core.rng import seed_of
from kuberml.core.values import value
from kuberml.learning import estimators
from kuberml.learning.learner import SoftTargets, State, label_positions
from kuberml.learning.rows import Rows, rows_of
from kuberml.learning.types import Array, FitPlan, Samples

_FLOOR = 1e-6  # probability of a label that an estimator has never seen
Floats = npt.NDArray[np.float64]


@value
class Recipe(msgspec.Struct, frozen=True):
    """What an estimator is fitted on, and the seed of its chance."""

    rows: Rows
    seed: int


@value
class SklearnLearner(msgspec.Struct, frozen=True):
    """A scikit-learn classifier as a learner.

    A linear estimator that can go on from coefficients does so from the state; a plan's `steps` (or `epochs`) become its
    `max_iter` where it has one that `params` leave open. Any other is fitted anew on the samples and soft targets that it is
    given: what it was before does not matter, and nothing of the plan does.

    Attributes:
        estimator: "package.module:Class", for instance "sklearn.ensemble:RandomForestClassifier".
        shape: of one sample; more than one axis is flattened to D inputs.
        labels: names of the C classes.
        params: keyword arguments of the class.
    """

    estimator: str
    shape: tuple[int, ...]
    labels: tuple[LabelId, ...]
    params: dict[str, Any] = {}

    @property
    def averageable(self) -> bool:
        """Whether the estimator is linear; see `estimators.is_linear`."""
        return estimators.is_linear(self.estimator, self.params)

    @property
    def flops_per_sample(self) -> int:
        """2 C D; times `n_estimators` where there are many. A rough figure for whatever is not linear."""
        many = self.params.get("n_estimators", 1)
        return 2 * len(self.labels) * self._inputs * (many if isinstance(many, int) else 1)

    def init(self, seed: int) -> State:
        """All zeros for a linear estimator, a recipe without rows for any other: both find every label equally likely."""
        if self.averageable:
            return np.zeros(len(self.labels) * (self._inputs + 1), np.float32)
        empty = Rows(np.empty((0, self._inputs), np.float32), np.empty(0, np.int64), np.empty(0))
        return Recipe(empty, seed_of(seed, "sklearn"))

    def fit(self, state: State, samples: Samples, plan: FitPlan, seed: int, *, soft: SoftTargets | None = None) -> State:
        """See `Learner.fit` and the class. Without any rows the state stays as it is."""
        if len(samples) and samples.x_N.shape[1:] != tuple(self.shape):
            raise ConfigError(f"samples of shape {samples.x_N.shape[1:]}; the learner is for {tuple(self.shape)}")
        weighted = estimators.takes(estimators.make(self.estimator, self.params, seed), "sample_weight")
        rows = rows_of(samples.x_N, label_positions(self, samples.labels)[samples.y_N], soft, weighted=weighted)
        if not len(rows):
            return state
        if rows.x_RD.shape[1] != self._inputs:
            raise ConfigError(f"soft targets of {rows.x_RD.shape[1]} inputs; the learner is for {self._inputs}")
        recipe = Recipe(rows, seed_of(seed, "sklearn"))
        return self._coefficients(state, recipe, plan) if self.averageable else recipe

    def predict(self, state: State, x_N: Array) -> Array:
        """See `Learner.predict`. A linear estimator's answers are the softmax of its decision function."""
        x_ND = np.asarray(x_N, np.float32).reshape(len(x_N), self._inputs)
        if isinstance(state, Recipe):
            return _log(_answers(values.dumps([self.estimator, self.params, len(self.labels), state]), x_ND))
        coef_CD, intercept_C = self._matrices(state)
        answers_NC = x_ND @ coef_CD.T + intercept_C
        return np.asarray(answers_NC - _log_sum(answers_NC), np.float32)

    @property
    def _inputs(self) -> int:
        return int(np.prod(self.shape))

    def _matrices(self, state: State) -> tuple[Floats, Floats]:
        """Coefficients [C, D] and intercept [C] of a flat state."""
        classes, inputs = len(self.labels), self._inputs
        if not isinstance(state, np.ndarray) or state.shape != (classes * (inputs + 1),):
            raise ConfigError(f"the state of {self.estimator!r} here is one float32 vector of {classes * (inputs + 1)} numbers")
        wide = state.astype(np.float64)
        return wide[: classes * inputs].reshape(classes, inputs), wide[classes * inputs :]

    def _coefficients(self, state: State, recipe: Recipe, plan: FitPlan) -> Array:
        """The state after fitting a linear estimator from `state`."""
        coef_CD, intercept_C = self._matrices(state)
        estimator = estimators.make(self.estimator, self.params, recipe.seed)
        if "max_iter" in estimator.get_params(deep=False) and "max_iter" not in self.params:
            estimator.set_params(max_iter=plan.steps or plan.epochs)
        rows = recipe.rows
        if estimators.takes(estimator, "sample_weight"):
            rows = _with_every_label(rows, len(self.labels))
        seen = np.unique(rows.y_R)
        if len(seen) < 2:
            raise ConfigError(f"estimator {self.estimator!r} needs samples of two labels or more, not of {len(seen)}")
        with estimators.quiet():
            _fit_from(estimator, rows, coef_CD[seen], intercept_C[seen])
        coef_CD[seen], intercept_C[seen] = _rows_per_label(np.asarray(estimator.coef_), np.asarray(estimator.intercept_))
        never_C = ~coef_CD.any(axis=1)
        intercept_C[never_C] = intercept_C.min() + np.log(_FLOOR)
        return np.concatenate([coef_CD.ravel(), intercept_C]).astype(np.float32)


def _with_every_label(rows: Rows, classes: int) -> Rows:
    """The rows, and one of weight 0 for each label without any: the estimator then knows it and learns when *not* to say it."""
    missing = np.setdiff1d(np.arange(classes), rows.y_R)
    nothing_MD = np.zeros((len(missing), rows.x_RD.shape[1]), np.float32)
    return Rows(
        np.concatenate([rows.x_RD, nothing_MD]),
        np.concatenate([rows.y_R, missing]),
        np.concatenate([rows.weight_R, np.zeros(len(missing))]),
    )


def _fit_from(estimator: Any, rows: Rows, coef_SD: Floats, intercept_S: Floats) -> None:
    """Fit, starting at these rows for the S labels that are there, where the estimator can start anywhere."""
    if len(coef_SD) == 2:  # scikit-learn keeps two labels as the row of their difference
        coef_SD, intercept_S = coef_SD[1:] - coef_SD[:1], intercept_S[1:] - intercept_S[:1]
    options: dict[str, Any] = {}
    if estimators.takes(estimator, "coef_init"):
        options = {"coef_init": coef_SD, "intercept_init": intercept_S}
    elif "warm_start" in estimator.get_params(deep=False):
        estimator.set_params(warm_start=True)
        estimator.coef_, estimator.intercept_ = coef_SD, intercept_S
    _fit(estimator, rows, options)


def _fit(estimator: Any, rows: Rows, options: dict[str, Any]) -> None:
    if estimators.takes(estimator, "sample_weight"):
        options = {**options, "sample_weight": rows.weight_R}
    try:
        estimator.fit(rows.x_RD.astype(np.float64), rows.y_R, **options)
    except ValueError as error:
        raise ConfigError(f"{type(estimator).__name__} cannot be fitted on {len(rows)} rows: {error}") from error


def _rows_per_label(coef: Floats, intercept: Floats) -> tuple[Floats, Floats]:
    if len(coef) > 1:
        return coef, intercept
    return np.concatenate([-coef / 2, coef / 2]), np.concatenate([-intercept / 2, intercept / 2])


@functools.lru_cache(maxsize=16)
def _fitted(recipe: bytes) -> Any:
    name, params, _, what = values.loads(recipe)
    estimator = estimators.make(name, params, what.seed)
    with estimators.quiet():
        _fit(estimator, what.rows, {})
    return estimator


def _answers(recipe: bytes, x_ND: Array) -> Floats:
    """Probabilities [N, C]; a recipe of fewer than two labels needs no estimator."""
    _, _, classes, what = values.loads(recipe)
    seen = np.unique(what.rows.y_R)
    probs_NC = np.zeros((len(x_ND), classes))
    if len(seen) < 2 or len(x_ND) == 0:
        probs_NC[:, seen] = 1.0
        return probs_NC
    estimator = _fitted(recipe)
    wide_ND = x_ND.astype(np.float64)
    with estimators.quiet():
        if hasattr(estimator, "predict_proba"):
            probs_NC[:, estimator.classes_] = estimator.predict_proba(wide_ND)
        else:
            probs_NC[np.arange(len(x_ND)), estimator.predict(wide_ND)] = 1.0
    return probs_NC


def _log(probs_NC: Floats) -> Array:
    safe_NC = np.nan_to_num(probs_NC) + _FLOOR
    return np.asarray(np.log(safe_NC / safe_NC.sum(axis=1, keepdims=True)), np.float32)


def _log_sum(answers_NC: Floats) -> Floats:
    top_N1 = answers_NC.max(axis=1, keepdims=True)
    total: Floats = top_N1 + np.log(np.exp(answers_NC - top_N1).sum(axis=1, keepdims=True))
    return total
