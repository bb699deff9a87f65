from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from kuberml.core import values
from kuberml.core.errors import ConfigError, MissingExtra
from kuberml.core.rng import rng
from kuberml.learning.datasets import DATASETS
from kuberml.learning.learner import SoftTargets
from kuberml.learning.sklearn_learner import Recipe, SklearnLearner
from kuberml.learning.types import FitPlan, Samples

pytest.importorskip("sklearn")

PLAN = FitPlan(lr=0.1, epochs=50)
LABELS = tuple("0123456789")
LOGISTIC = SklearnLearner("sklearn.linear_model:LogisticRegression", (8, 8, 1), LABELS)
LINEAR = [
    LOGISTIC,
    SklearnLearner("sklearn.linear_model:SGDClassifier", (8, 8, 1), LABELS, {"alpha": 1e-3}),
    SklearnLearner("sklearn.linear_model:RidgeClassifier", (8, 8, 1), LABELS),
    SklearnLearner("sklearn.discriminant_analysis:LinearDiscriminantAnalysis", (8, 8, 1), LABELS),
]
OTHERS = [
    SklearnLearner("sklearn.ensemble:RandomForestClassifier", (8, 8, 1), LABELS, {"n_estimators": 30}),
    SklearnLearner("sklearn.svm:SVC", (8, 8, 1), LABELS, {"kernel": "linear"}),
    SklearnLearner("sklearn.neighbors:KNeighborsClassifier", (8, 8, 1), LABELS, {"n_neighbors": 3}),
    SklearnLearner("sklearn.naive_bayes:GaussianNB", (8, 8, 1), LABELS, {"var_smoothing": 1e-2}),
]


def _name(learner: SklearnLearner) -> str:
    return learner.estimator.rpartition(":")[2]


def _digits(split: str, *labels: int) -> Samples:
    whole = DATASETS.get("digits").split(split)
    keep = np.isin(whole.y_N, labels or range(10))
    return Samples(whole.x_N[keep], whole.y_N[keep], whole.labels)


def _accuracy(learner: SklearnLearner, state: Any, samples: Samples) -> float:
    return float(np.mean(learner.predict(state, samples.x_N).argmax(axis=1) == samples.y_N))


@pytest.mark.parametrize("learner", LINEAR + OTHERS, ids=_name)
def test_learns_the_digits_the_same_way_twice(learner: SklearnLearner) -> None:
    train, test = _digits("train"), _digits("test")
    first, second = (learner.fit(learner.init(0), train, PLAN, 3) for _ in range(2))

    assert _accuracy(learner, first, test) > 0.85
    assert values.digest(first) == values.digest(second)
    answers = learner.predict(first, test.x_N)
    assert answers.dtype == np.float32
    assert np.allclose(np.exp(answers).sum(axis=1), 1, atol=1e-4)
    assert np.array_equal(answers, learner.predict(values.frozen(first), test.x_N))


@pytest.mark.parametrize("learner", LINEAR, ids=_name)
def test_linear_states_are_vectors(learner: SklearnLearner) -> None:
    state = learner.fit(learner.init(0), _digits("train"), PLAN, 0)
    assert learner.averageable
    assert state.shape == (650,)
    assert state.dtype == np.float32


@pytest.mark.parametrize("learner", OTHERS, ids=_name)
def test_other_states_are_recipes(learner: SklearnLearner) -> None:
    assert not learner.averageable
    assert isinstance(learner.fit(learner.init(0), _digits("test"), PLAN, 0), Recipe)


@pytest.mark.parametrize("learner", LINEAR + OTHERS, ids=_name)
def test_labels_never_seen_are_unlikely_and_before_learning_all_are_equal(learner: SklearnLearner) -> None:
    start = learner.init(0)
    assert np.ptp(learner.predict(start, _digits("test").x_N)) == 0

    state = learner.fit(start, _digits("train", 2, 7, 8), PLAN, 0)
    answers = learner.predict(state, _digits("test", 2, 7, 8).x_N)
    assert np.isfinite(answers).all()
    assert set(answers.argmax(axis=1)) <= {2, 7, 8}
    assert _accuracy(learner, state, _digits("test", 2, 7, 8)) > 0.9


def test_averaging_linear_states_works_round_after_round() -> None:
    """Each round starts from the mean: with few iterations a round, later rounds are better than the first."""
    parts, test = [_digits("train", *range(k, k + 5)) for k in (0, 5)], _digits("test")
    learner = SklearnLearner("sklearn.linear_model:LogisticRegression", (8, 8, 1), LABELS)
    state, scores = learner.init(0), []
    for _ in range(8):
        state = np.mean([learner.fit(state, part, FitPlan(lr=0, epochs=2), 0) for part in parts], axis=0, dtype=np.float32)
        scores.append(_accuracy(learner, state, test))
    assert scores[-1] > scores[0]
    assert scores[-1] > 0.86


def test_two_labels_survive_scikit_learns_single_row() -> None:
    heart = SklearnLearner("sklearn.linear_model:LogisticRegression", (3,), ("healthy", "ill"))
    x_N = rng(0, "x").normal(size=(80, 3)).astype(np.float32)
    samples = Samples(x_N, (x_N[:, 0] > 0).astype(np.int64), ("healthy", "ill"))
    state = heart.fit(heart.init(0), samples, PLAN, 0)
    again = heart.fit(state, samples, FitPlan(lr=0, epochs=1), 0)

    assert _accuracy(heart, state, samples) > 0.95
    assert _accuracy(heart, again, samples) >= _accuracy(heart, state, samples) - 0.02
    only_ill = Samples(x_N[:5], np.ones(5, np.int64), ("healthy", "ill"))
    assert heart.predict(heart.fit(heart.init(0), only_ill, PLAN, 0), x_N).argmax(axis=1).all()


def _soft(samples: Samples, **changes: Any) -> SoftTargets:
    probs_NC = np.full((len(samples), 10), 0.02, np.float32)
    probs_NC[np.arange(len(samples)), samples.y_N] = 0.82
    return SoftTargets(samples.x_N, probs_NC, np.ones((len(samples), 10), bool), **changes)


@pytest.mark.parametrize("learner", LINEAR[:1] + OTHERS[:3], ids=_name)
def test_teachers_teach_what_own_samples_lack(learner: SklearnLearner) -> None:
    own, test = _digits("train", 0, 1, 2), _digits("test", 5, 6)
    alone = learner.fit(learner.init(0), own, PLAN, 0)
    taught = learner.fit(alone, own, PLAN, 0, soft=_soft(_digits("public", 5, 6)))

    assert _accuracy(learner, alone, test) == 0
    assert _accuracy(learner, taught, test) > 0.8
    assert _accuracy(learner, taught, _digits("test", 0, 1, 2)) > 0.9


def test_a_mask_hides_what_a_teacher_does_not_know() -> None:
    public = _digits("public", 5, 6)
    soft = _soft(public)
    only_five = np.zeros_like(soft.mask_NC)
    only_five[public.y_N == 5, 5] = True
    learner = OTHERS[0]
    state = learner.fit(learner.init(0), _digits("train", 0, 1), PLAN, 0, soft=SoftTargets(soft.x, soft.probs_NC, only_five))

    assert set(np.unique(state.rows.y_R)) == {0, 1, 5}


def test_temperature_is_taken_back() -> None:
    sharp = np.array([[0.9, 0.1]], np.float32)
    softened = sharp**0.5 / (sharp**0.5).sum()
    learner = SklearnLearner("sklearn.naive_bayes:GaussianNB", (2,), ("a", "b"))
    soft = SoftTargets(np.ones((1, 2), np.float32), softened, np.ones((1, 2), bool), temperature=2.0)
    nobody = Samples(np.empty((0, 2), np.float32), np.empty(0, np.int64), ("a", "b"))

    assert learner.fit(learner.init(0), nobody, PLAN, 0, soft=soft).rows.weight_R == pytest.approx([0.9, 0.1], abs=1e-6)


def test_alpha_divides_the_weight() -> None:
    own, public = _digits("train", 0, 1), _digits("public", 5)
    state = OTHERS[0].fit(OTHERS[0].init(0), own, PLAN, 0, soft=_soft(public, alpha=0.25))
    weight_R = state.rows.weight_R
    assert weight_R[len(own) :].sum() / weight_R.sum() == pytest.approx(0.25)
    assert weight_R.sum() == pytest.approx(len(own) + len(public))


def test_no_rows_change_nothing() -> None:
    start = OTHERS[0].init(0)
    assert OTHERS[0].fit(start, _digits("train", 11), PLAN, 0) is start


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"estimator": "sklearn.svm:SVMC"}, "not 'package.module:Class'"),
        ({"estimator": "SVC"}, "not 'package.module:Class'"),
        ({"estimator": "collections:OrderedDict", "params": {}}, "no classifier"),
        ({"params": {"depth": 3}}, "does not take"),
        ({"shape": (4, 4)}, "samples of shape"),
        ({"labels": ("0", "1")}, "not the learner's"),
    ],
)
def test_wrong_learners_say_what_is_wrong(changes: dict[str, Any], message: str) -> None:
    settings = {"estimator": "sklearn.svm:SVC", "shape": (8, 8, 1), "labels": LABELS, "params": {}, **changes}
    learner = SklearnLearner(**settings)
    with pytest.raises(ConfigError, match=message):
        learner.fit(learner.init(0), _digits("test"), PLAN, 0)


def test_a_foreign_state_is_refused() -> None:
    with pytest.raises(ConfigError, match="650 numbers"):
        LOGISTIC.predict(np.zeros(3, np.float32), np.zeros((1, 8, 8, 1), np.float32))


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"kuberml\[sklearn\]"):
        SklearnLearner("sklearn.svm:SVC", (2,), ("a", "b"), {"C": 7.0}).init(0)
