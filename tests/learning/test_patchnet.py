from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core import values
from kuberml.core.errors import ConfigError
from kuberml.core.rng import rng
from kuberml.learning.patchnet import GAIN, Geometry, PatchNet


def _net(geometry: Geometry, filters: int = 3, seed: int = 0) -> PatchNet:
    drawn = np.frombuffer(rng(seed, "filters").bytes(geometry.window // 2 * filters), np.int8)
    half = drawn.reshape(-1, filters) // 2
    weights = np.concatenate([half, -half, np.zeros((geometry.window % 2, filters))]).astype(np.int8)
    dimensions = geometry.sides * geometry.grid**2 * filters
    high = np.full(filters, 30, np.float32)
    return PatchNet(geometry, weights, high, -high, np.zeros(dimensions, np.float32), np.ones(dimensions, np.float32))


def _images(count: int, *shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    drawn = rng(seed, "images").bytes(count * int(np.prod(shape)))  # bytes: equal in every version of NumPy
    return (np.frombuffer(drawn, np.uint8).reshape(count, *shape) / 255).astype(np.float32)


def _by_definition(net: PatchNet, x_HWC: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The features of one image, patch by patch in float64."""
    geometry, side = net.geometry, net.geometry.patch
    pixels = np.rint(np.pad(x_HWC.astype(float), [(geometry.pad,) * 2] * 2 + [(0, 0)], mode="edge") * geometry.levels)
    rows, columns = pixels.shape[0] - side + 1, pixels.shape[1] - side + 1
    answers = np.empty((rows, columns, net.filters_KF.shape[1]))
    for i in range(rows):
        for j in range(columns):
            patch = pixels[i : i + side, j : j + side].ravel()
            spread = np.sqrt(patch.var() + geometry.floor_ppm / 1e6 * geometry.levels**2)
            answers[i, j] = np.rint(GAIN * (patch @ net.filters_KF.astype(float)) / spread)
    cells = []
    for i in range(geometry.grid):
        for j in range(geometry.grid):
            cell = answers[
                rows * i // geometry.grid : rows * (i + 1) // geometry.grid,
                columns * j // geometry.grid : columns * (j + 1) // geometry.grid,
            ]
            above = np.maximum(cell - net.high_F, 0).mean(axis=(0, 1))
            below = np.maximum(net.low_F - cell, 0).mean(axis=(0, 1))
            cells.append([above, below] if geometry.sides == 2 else [above + below])
    return np.array(cells).ravel()


@pytest.mark.parametrize(
    ("geometry", "shape"),
    [
        (Geometry(patch=3, grid=2), (8, 8, 1)),
        (Geometry(patch=4, grid=3, pad=1, levels=16), (9, 7, 1)),
        (Geometry(patch=5, grid=2, channels=3, sides=1), (12, 10, 3)),
    ],
)
def test_features_are_what_the_definition_says(geometry: Geometry, shape: tuple[int, ...]) -> None:
    net, x_N = _net(geometry), _images(4, *shape)
    expected = np.stack([_by_definition(net, x) for x in x_N])

    assert net(x_N).shape == (4, net.dimensions)
    assert np.abs(net(x_N) - expected).max() < 1e-3


@settings(max_examples=20, derandomize=True, deadline=None)
@given(count=st.integers(1, 300), seed=st.integers(0, 99))
def test_a_sample_has_the_same_bits_in_whatever_company(count: int, seed: int) -> None:
    net, x_N = _net(Geometry(patch=3, grid=2)), _images(count, 8, 8, 1, seed=seed)
    assert np.array_equal(net(x_N)[-1:], net(x_N[-1:]))


def test_order_of_summation_does_not_matter() -> None:
    """Reversed in space, every sum runs the other way round: only exact ones agree bit for bit."""
    net, x_N = _net(Geometry(patch=4, grid=1), filters=5), _images(50, 20, 20, 1)
    turned_KF = net.filters_KF.reshape(4, 4, 5)[::-1, ::-1].reshape(16, 5)
    turned = PatchNet(net.geometry, turned_KF, net.high_F, net.low_F, net.centre_D, net.scale_D)
    assert np.array_equal(net(x_N), turned(x_N[:, ::-1, ::-1]))


def test_golden_bits() -> None:
    """Equal on every machine: the digest of packets stands on it."""
    net, x_N = _net(Geometry(patch=5, grid=3, channels=3), filters=8), _images(20, 16, 16, 3)
    assert values.digest(net(x_N)) == "841b3ef0aaeb00677b6a2bea20456da072286544959c5e24330725497aa318c8"


def test_brightness_does_not_matter() -> None:
    net, x_N = _net(Geometry(patch=3, grid=2)), _images(5, 8, 8, 1) / 2
    darker = np.rint(x_N * 255) / 255
    assert np.array_equal(net(darker.astype(np.float32)), net((darker + 100 / 255).astype(np.float32)))


def test_with_one_side_an_image_and_its_negative_look_alike() -> None:
    x_N = _images(5, 8, 8, 1)
    one, two = (_net(Geometry(patch=3, grid=2, sides=sides)) for sides in (1, 2))
    assert np.array_equal(one(x_N), one(np.float32(1) - x_N))
    assert not np.array_equal(two(x_N), two(np.float32(1) - x_N))


def test_a_flat_image_answers_nothing() -> None:
    assert not _net(Geometry(patch=3, grid=2))(np.full((2, 8, 8, 1), 0.7, np.float32)).any()


def test_no_images_no_features() -> None:
    net = _net(Geometry(patch=3, grid=2))
    assert net(np.empty((0, 8, 8, 1), np.float32)).shape == (0, net.dimensions)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((8, 8, 3), r"images \(H, W, 1\)"), ((8, 8), "images"), ((3, 8, 1), "enough pixels"), ((400, 400, 1), "too large")],
)
def test_images_of_another_shape_are_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _net(Geometry(patch=3, grid=2))(np.zeros((1, *shape), np.float32))


def test_flops_count_products_and_answers() -> None:
    assert _net(Geometry(patch=3, grid=2), filters=4).flops((8, 8, 1)) == 6 * 6 * 4 * (2 * 9 + 6)
