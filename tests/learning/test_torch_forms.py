"""Predictors as torch modules give what the predictors give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.serving.engines.models import SHAPE, digits, head_on, head_on_patches, network

from kuberml.core.errors import ConfigError
from kuberml.knowledge.kinds.extractor import Extractor
from kuberml.learning.extractors import features, identity, patch_filters, random_convolutions, torch_module
from kuberml.learning.predictor import Blend, Network
from kuberml.learning.sklearn_learner import SklearnLearner
from kuberml.learning.torch_forms import features_form, form_of
from kuberml.learning.types import Array


def answers(module: object, x_N: Array) -> Array:
    with torch.inference_mode():
        return module(torch.from_numpy(x_N.copy())).numpy()  # type: ignore[operator, no-any-return]


def extractors() -> dict[str, Extractor]:
    public_N, net = digits("train").x_N[:300], network("lenet")
    return {
        "patches": patch_filters(public_N, patch=3, grid=2, filters=24),
        "uneven cells, padded": patch_filters(public_N, patch=4, grid=3, filters=10, pad=1),
        "one side": patch_filters(public_N, patch=3, grid=2, filters=8, sides=1, choose="principal"),
        "projected": patch_filters(public_N, patch=3, grid=2, filters=24, components=20),
        "random": random_convolutions(patch=3, filters=12, grid=2, seed=4),
        "a layer": torch_module(net.learner, net.state, layer="6"),
        "logits": torch_module(net.learner, net.state),
    }


@pytest.mark.parametrize("name", list(extractors()))
def test_an_extractor_s_form_gives_its_features(name: str) -> None:
    extractor, x_N = extractors()[name], digits().x_N[:64]
    got, want = answers(features_form(extractor, SHAPE), x_N), features(extractor, x_N)
    exact = name not in ("a layer", "logits")  # those are as torch rounds, with the batch
    np.testing.assert_allclose(got, want, rtol=0, atol=0 if exact else 1e-5)


def test_a_head_s_form_gives_its_log_probabilities() -> None:
    predictor, samples = head_on_patches()
    np.testing.assert_allclose(answers(form_of(predictor), samples.x_N), predictor.predict(samples.x_N), atol=2e-6)


@pytest.mark.parametrize("model", ["linear", "lenet", "resnet8"])
def test_a_network_s_form_gives_its_log_probabilities(model: str) -> None:
    predictor, x_N = network(model, 20), digits().x_N[:80]
    np.testing.assert_allclose(answers(form_of(predictor), x_N), predictor.predict(x_N), atol=2e-5)


def test_a_form_is_a_copy_that_later_training_does_not_reach() -> None:
    predictor, x_N = network("lenet"), digits().x_N[:8]
    form, before = form_of(predictor), predictor.predict(x_N)
    predictor.learner.predict(predictor.learner.init(5), x_N)
    np.testing.assert_allclose(answers(form, x_N), before, atol=2e-5)


def test_what_has_no_form_says_so() -> None:
    head, _ = head_on_patches()
    forest = Network(SklearnLearner("sklearn.ensemble:RandomForestClassifier", SHAPE, digits().labels), None)
    for predictor, name in ((Blend(head, head), "Blend"), (forest, "SklearnLearner"), (head_on(identity(64)), "identity")):
        with pytest.raises(ConfigError, match=f"{name}.* has no form"):
            form_of(predictor)
