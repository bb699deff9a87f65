from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kuberml.core import values
from kuberml.core.errors import ConfigError, RemoteError
from kuberml.knowledge.kinds.extractor import Extractor, basis_of, blob_of, from_blob
from kuberml.learning.datasets import DATASETS
from kuberml.learning.extractors import (
    EXTRACTORS,
    built,
    features,
    identity,
    patch_filters,
    random_convolutions,
)
from kuberml.learning.types import Samples

SMALL: dict[str, Any] = {"patch": 4, "filters": 10, "grid": 3, "pad": 1, "levels": 16, "choose": "principal"}


@pytest.fixture(scope="module")
def public() -> np.ndarray[Any, Any]:
    return DATASETS.get("digits").split("public").x_N


def _accuracy(extractor: Extractor, *, inverted: bool = False, ridge: float = 3.0) -> float:
    """Of a pooled ridge head on the digits' test set; inverted: trained on both domains, tested on the negatives."""
    train, test = (DATASETS.get("digits").split(split) for split in ("train", "test"))

    def z(samples: Samples, *, negative: bool) -> np.ndarray[Any, Any]:
        x_N = np.float32(1) - samples.x_N if negative else samples.x_N
        return np.c_[np.ones(len(x_N)), features(extractor, x_N).astype(np.float64)]

    z_Nd = np.concatenate([z(train, negative=negative) for negative in ((False, True) if inverted else (False,))])
    one_hot_NC = np.eye(10)[np.tile(train.y_N, len(z_Nd) // len(train))]
    weights_dC = np.linalg.solve(z_Nd.T @ z_Nd + ridge * np.eye(z_Nd.shape[1]), z_Nd.T @ one_hot_NC)
    return float(np.mean(np.argmax(z(test, negative=inverted) @ weights_dC, axis=1) == test.y_N))


def test_patch_filters_of_the_digits_reach_98_percent_in_two_kilobytes(public: np.ndarray[Any, Any]) -> None:
    extractor = patch_filters(public, **SMALL)
    assert built(extractor).dimensions == 180
    assert len(blob_of(extractor)) < 2_000
    assert _accuracy(extractor) >= 0.98
    assert _accuracy(extractor, inverted=True) >= 0.975


def test_one_side_serves_both_domains_with_half_the_features(public: np.ndarray[Any, Any]) -> None:
    extractor = patch_filters(public, **SMALL, sides=1)
    assert built(extractor).dimensions == 90
    assert len(blob_of(extractor)) < 1_100
    assert _accuracy(extractor) >= 0.975
    assert _accuracy(extractor, inverted=True) == _accuracy(extractor)


def test_64_features_reach_97_percent(public: np.ndarray[Any, Any]) -> None:
    extractor = patch_filters(public, patch=3, filters=8, grid=2, levels=16, choose="principal")
    assert built(extractor).dimensions == 64
    assert _accuracy(extractor) >= 0.97


def test_random_convolutions_travel_as_their_seed() -> None:
    extractor = random_convolutions(patch=4, filters=16, grid=2, levels=16)
    assert len(blob_of(extractor)) < 250
    assert not extractor.tensors
    assert _accuracy(extractor) >= 0.96
    assert basis_of(extractor) != basis_of(random_convolutions(patch=4, filters=16, grid=2, levels=16, seed=1))


def test_features_are_centred_on_public_images_and_stay_in_range(public: np.ndarray[Any, Any]) -> None:
    z_Nd = features(patch_filters(public, **SMALL), public)
    assert z_Nd.dtype == np.float32
    assert np.abs(z_Nd.mean(axis=0)).max() < 0.01
    assert z_Nd.std() == pytest.approx(1, abs=0.1)
    assert np.abs(z_Nd).max() < 16


def test_components_are_nested_and_not_scaled_to_equal_variance(public: np.ndarray[Any, Any]) -> None:
    long, short = (patch_filters(public, **SMALL, components=components) for components in (100, 30))
    z_Nd = features(long, public)
    assert z_Nd.shape == (200, 100)
    assert np.array_equal(features(short, public), z_Nd[:, :30])
    assert np.all(np.diff(z_Nd.std(axis=0)) < 0.01)
    assert z_Nd.std(axis=0)[0] == pytest.approx(4, rel=0.02)
    assert _accuracy(long) >= 0.97


@pytest.mark.parametrize("settings", [{}, {"components": 20}, {"sides": 1}])
def test_features_survive_the_journey(public: np.ndarray[Any, Any], settings: dict[str, int]) -> None:
    extractor = patch_filters(public, **SMALL, **settings)
    arrived = from_blob(blob_of(extractor))
    assert basis_of(arrived) == basis_of(extractor) == basis_of(values.frozen(extractor))
    assert np.array_equal(features(arrived, public), features(extractor, public))


def test_golden_random_convolutions() -> None:
    """The seed is all that travels: it must mean the same filters on every machine and in every version."""
    x_N = DATASETS.get("digits").split("test").x_N[:50]
    extractor = random_convolutions(patch=4, filters=16, grid=2, levels=16, seed=7)
    assert basis_of(extractor) == "ab509b77d9ed98095653a700ee352e13738379b094e2c3a048ad6378ef178bf4"
    assert values.digest(features(extractor, x_N)) == "bd052cadd3fba431205f05cdf10ad124a96d08858ecb56b0e1b574f393e5d0be"


def test_colour_images(public: np.ndarray[Any, Any]) -> None:
    colour_N = np.repeat(public, 3, axis=3) * np.array([1, 0.5, 0.25], np.float32)
    extractor = patch_filters(colour_N, patch=3, filters=12, grid=2)
    assert features(extractor, colour_N).shape == (200, 96)
    with pytest.raises(ConfigError, match=r"\(H, W, 3\)"):
        features(extractor, public)


def test_identity_flattens(public: np.ndarray[Any, Any]) -> None:
    assert np.array_equal(features(identity(64), public), public.reshape(200, 64))
    assert built(identity(64)).flops((64,)) == 0
    with pytest.raises(ConfigError, match="for 22 numbers"):
        features(identity(22), public)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"filters": 16, "patch": 4, "choose": "principal"}, r"filters must be 1\.\.15"),
        ({"choose": "principle"}, "did you mean 'principal'"),
        ({"patch": 4, "gird": 2}, "gird"),
        ({"patch": 0}, "patch"),
        ({"sides": 3, "patch": 3}, "sides"),
        ({"patch": 3, "components": 1000}, r"components must be 1\.\.200"),
        ({"patch": 9}, "enough pixels"),
    ],
)
def test_impossible_settings_are_refused(public: np.ndarray[Any, Any], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        patch_filters(public, **settings)


def test_random_convolutions_names_its_settings() -> None:
    with pytest.raises(ConfigError, match=r"seeds.*there are .*seed"):
        random_convolutions(seeds=1)


def _damaged(extractor: Extractor, **tensors: Any) -> Extractor:
    return Extractor(extractor.architecture, extractor.facts, {**extractor.tensors, **tensors})


def test_values_that_cannot_be_are_the_peers_fault(public: np.ndarray[Any, Any]) -> None:
    good = patch_filters(public, **SMALL)
    bad = [
        (_damaged(good, filters=good.tensors["filters"][:5]), "'filters' is int8"),
        (_damaged(good, filters=good.tensors["filters"].astype(np.float32)), "'filters' is float32"),
        (_damaged(good, centre=good.tensors["centre"][:7]), "'centre'"),
        (_damaged(good, limits=good.tensors["limits"] * 1_000_000), "beyond any answer"),
        (_damaged(good, code=np.zeros(3)), "tensors"),
        (Extractor("patch-filters", {**good.facts, "grid": 65}, good.tensors), "grid"),
        (Extractor("patch-filters", {**good.facts, "new": 1}, good.tensors), "new"),
        (Extractor("random-convolutions", {"patch": 4}, {"w": np.zeros(3)}), "no tensors"),
        (Extractor("random-convolutions", {"patch": 4, "filters": 10**9}), "filters"),
        (Extractor("identity", {"dimensions": 0}), "dimensions"),
    ]
    for extractor, message in bad:
        with pytest.raises(RemoteError, match=message):
            features(extractor, public)


def test_an_architecture_that_is_not_installed_says_so(public: np.ndarray[Any, Any]) -> None:
    with pytest.raises(ConfigError, match="did you mean 'patch-filters'"):
        features(Extractor("patch-filter"), public)


def test_names() -> None:
    assert {"identity", "patch-filters", "random-convolutions"} <= set(EXTRACTORS.names())


@pytest.mark.slow
def test_fashion_mnist_reaches_the_known_accuracy(real_data: object) -> None:
    """Coates' filters with F = 64 on a 3 x 3 grid and a ridge head: 89.3 % (one test image is 0.01 points)."""
    fashion = DATASETS.get("fashion-mnist")
    train, test = fashion.split("train"), fashion.split("test")
    extractor = patch_filters(fashion.split("public").x_N, filters=64, grid=3)
    z_Nd = np.c_[np.ones(len(train), np.float32), features(extractor, train.x_N)]
    weights_dC = np.linalg.solve(
        (z_Nd.T @ z_Nd).astype(float) + 30 * np.eye(1153), (z_Nd.T @ np.eye(10)[train.y_N]).astype(float)
    )
    scores = np.c_[np.ones(len(test)), features(extractor, test.x_N)] @ weights_dC
    assert np.mean(np.argmax(scores, axis=1) == test.y_N) >= 0.89
