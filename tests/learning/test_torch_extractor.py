from __future__ import annotations

import numpy as np
import pytest

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.knowledge.kinds.extractor import Extractor, blob_of, from_blob
from kuberml.learning.datasets import DATASETS
from kuberml.learning.extractors import built, features, make_extractor, torch_module
from kuberml.learning.torch_learner import TorchLearner

torch = pytest.importorskip("torch")

LEARNER = TorchLearner("mlp", (8, 8, 1), tuple("0123456789"), {"hidden": [32]})


@pytest.fixture(scope="module")
def x_N() -> np.ndarray:
    return DATASETS.get("digits").split("public").x_N


def test_the_whole_network_answers_its_logits(x_N: np.ndarray) -> None:
    state = LEARNER.init(3)
    z_Nd = features(torch_module(LEARNER, state, half=False), x_N)
    log_probs = z_Nd - np.log(np.exp(z_Nd).sum(axis=1, keepdims=True))
    assert z_Nd.shape == (200, 10)
    assert np.allclose(log_probs, LEARNER.predict(state, x_N), atol=1e-5)


def test_a_layer_answers_its_features_flattened(x_N: np.ndarray) -> None:
    from kuberml.learning.models import build

    lenet = TorchLearner("lenet", (8, 8, 1), LEARNER.labels)
    names = [name for name, part in build("lenet", (8, 8, 1), 10).named_modules() if isinstance(part, torch.nn.Conv2d)]
    extractor = torch_module(lenet, lenet.init(0), layer=names[0])
    z_Nd = features(extractor, x_N)
    assert z_Nd.ndim == 2
    assert z_Nd.shape[1] == built(extractor).dimensions > 10
    assert built(extractor).flops((8, 8, 1)) == lenet.flops_per_sample
    assert features(extractor, x_N[:0]).shape == (0, z_Nd.shape[1])


def test_it_travels_with_half_precision(x_N: np.ndarray) -> None:
    whole, half = (torch_module(LEARNER, LEARNER.init(3), half=half) for half in (False, True))
    arrived = from_blob(blob_of(half))
    assert len(blob_of(half)) < 0.55 * len(blob_of(whole))
    assert np.array_equal(features(arrived, x_N), features(half, x_N))
    assert np.allclose(features(half, x_N), features(whole, x_N), atol=1e-2)


def test_scenarios_make_one_by_name(x_N: np.ndarray) -> None:
    first, second, other = (
        make_extractor("torch-module", x_N, seed, model="mlp", outputs=24, hidden=[16]) for seed in (1, 1, 2)
    )
    assert blob_of(first) == blob_of(second) != blob_of(other)
    assert features(first, x_N).shape == (200, 24)


def test_names_of_code_never_travel(x_N: np.ndarray) -> None:
    own = TorchLearner("torch.nn:Flatten", (8, 8, 1), LEARNER.labels)
    with pytest.raises(ConfigError, match="registered"):
        torch_module(own, np.zeros(1, np.float32))
    good = torch_module(LEARNER, LEARNER.init(0))
    for model in ("torch.nn:Flatten", "os:system", "mlp2"):
        with pytest.raises(RemoteError, match="not registered"):
            features(Extractor("torch-module", {**good.facts, "model": model}, good.tensors), x_N)


def test_what_cannot_be_is_refused(x_N: np.ndarray) -> None:
    state = LEARNER.init(0)
    good = torch_module(LEARNER, state)
    with pytest.raises(ConfigError, match="no layer"):
        torch_module(LEARNER, state, layer="nowhere")
    with pytest.raises(ConfigError, match="float32"):
        torch_module(LEARNER, state[:-1])
    with pytest.raises(ConfigError, match="half=False"):
        torch_module(LEARNER, state * np.float32(1e9))
    with pytest.raises(ConfigError, match=r"shape \(8, 8, 1\)"):
        features(good, x_N[:, :4])
    bad = [
        Extractor("torch-module", good.facts, {}),
        Extractor("torch-module", good.facts, {"state": good.tensors["state"][:-1]}),
        Extractor("torch-module", {**good.facts, "shape": "[8, 8, -1]"}, good.tensors),
        Extractor("torch-module", {**good.facts, "shape": "[]"}, good.tensors),
        Extractor("torch-module", {**good.facts, "options": "{"}, good.tensors),
        Extractor("torch-module", {**good.facts, "options": '{"wrong": 1}'}, good.tensors),
        Extractor("torch-module", {**good.facts, "outputs": 0}, good.tensors),
        Extractor("torch-module", {"model": "mlp"}, good.tensors),
    ]
    for extractor in bad:
        with pytest.raises(RemoteError):
            features(extractor, x_N)
