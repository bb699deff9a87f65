"""The built-in image extractors as values: how they are made, and how their features are computed from them.

`patch-filters` learns its filters from *public* images (a split "public", which no learner owns); thresholds and standardising
constants are measured on the same images and travel with it. `random-convolutions` needs no data: its filters are its seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.rng import rng
from kuberml.knowledge.kinds.extractor import Extractor
from kuberml.learning import filters as filter_banks
from kuberml.learning.filters import Choice, whole
from kuberml.learning.patchnet import GAIN, Geometry, PatchNet
from kuberml.learning.projection import Projection, principal
from kuberml.learning.types import Array

PATCH_FILTERS, RANDOM = "patch-filters", "random-convolutions"
STANDARD = 2_000
"""Public images that standardising constants are measured on, at most."""
MAX_DIMENSIONS = 65_536
_SPREAD_FLOOR = 0.01  # in units of an answer: a feature that is hardly ever there is not blown up
_USUAL_CENTRE, _USUAL_SPREAD = 0.29, 0.33  # of a pooled answer to white noise at the usual threshold

G = TypeVar("G", bound=Geometry)


class RandomFilters(Geometry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of `random-convolutions`, besides those of `Geometry`.

    Attributes:
        seed: of the filters.
        filters: F.
        threshold_ppm: in millionths of the usual size of an answer to white noise.
    """

    patch: Annotated[int, msgspec.Meta(ge=2, le=64)] = 5
    seed: int = 0
    filters: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 32
    threshold_ppm: Annotated[int, msgspec.Meta(ge=0, le=10_000_000)] = 250_000


def random_convolutions(**settings: int) -> Extractor:
    """Random filters: about 250 bytes, since only the settings travel. D = sides * filters * grid².

    Args:
        **settings: fields of `RandomFilters` that differ from their defaults.

    Raises:
        ConfigError: an unknown setting or a value outside its bounds.
    """
    chosen = _settings(RandomFilters, settings)
    return Extractor(RANDOM, msgspec.to_builtins(chosen), {})


def patch_filters(
    public_N: Array,
    *,
    seed: int = 0,
    filters: int = 64,
    choose: Choice = "patches",
    threshold: float = 0.25,
    whitening: float = 0.05,
    components: int = 0,
    **geometry: int,
) -> Extractor:
    """Whitened patch filters with a soft threshold, pooled over a grid and standardised. D = sides * filters * grid².

    Args:
        public_N: float32 [N, H, W, C] in 0..1, images that belong to nobody.
        seed: which patches are drawn.
        filters: F. With "principal" at most K - 1 for patches of K numbers.
        choose: "patches" takes random whitened patches (best for many filters), "principal" their principal directions
            (best for few, and nearly independent of the seed).
        threshold: in units of an answer.
        whitening: added to the variance of each direction of the patches.
        components: > 0: features are so many principal components of the public features (nested packets).
        **geometry: fields of `patchnet.Geometry`; `channels` is taken from the images.

    Raises:
        ConfigError: a setting that cannot be; images too few or too small.
    """
    if public_N.ndim != 4 or len(public_N) == 0:
        raise ConfigError(f"public images must be [N, H, W, C] with N > 0, not {public_N.shape}")
    shape = _settings(Geometry, {"patch": 6, "grid": 3, **geometry, "channels": public_N.shape[3]})
    shape.positions(public_N.shape[1:])
    bank = filter_banks.learn(public_N, shape, filters, choose=choose, whitening=whitening, seed=seed)
    offset_F = bank.offset_F if shape.sides == 2 else np.zeros(filters)  # one side: a negative answers alike
    limits_2F = np.rint(np.stack([offset_F + threshold, offset_F - threshold]) * bank.unit_F)
    whole_limits_2F = np.clip(limits_2F, -shape.largest, shape.largest).astype(np.int32)
    tensors: dict[str, npt.NDArray[Any]] = {"filters": bank.filters_KF, "limits": whole_limits_2F}
    pooled_ND = _net(shape, tensors).pooled(public_N[:STANDARD])
    floor_D = _SPREAD_FLOOR * np.tile(bank.unit_F, pooled_ND.shape[1] // filters)
    tensors["centre"] = pooled_ND.mean(axis=0).astype(np.float16)
    tensors["scale"] = (1 / (pooled_ND.std(axis=0) + floor_D)).astype(np.float16)
    if components:
        mixed = principal(_net(shape, tensors).standardised(pooled_ND), components)
        tensors |= {"mix": mixed.mix_Dk, "mix_scale": mixed.scale_k.astype(np.float16)}
    return Extractor(PATCH_FILTERS, msgspec.to_builtins(shape), tensors)


@dataclass(frozen=True, slots=True)
class Projected:
    """A patch net, and a projection of its features where there is one."""

    net: PatchNet
    projection: Projection | None

    @property
    def dimensions(self) -> int:
        """Features of a sample."""
        return self.net.dimensions if self.projection is None else self.projection.mix_Dk.shape[1]

    def flops(self, shape: tuple[int, ...]) -> int:
        """Operations for one sample of this shape."""
        return self.net.flops(shape) + (0 if self.projection is None else 2 * self.projection.mix_Dk.size)

    def __call__(self, x_N: Array) -> Array:
        """float32 [N, dimensions]."""
        z_ND = self.net(x_N)
        return z_ND if self.projection is None else self.projection(z_ND)


def build_patch_filters(extractor: Extractor) -> Projected:
    """The function of a `patch-filters` value. Raises RemoteError: settings and tensors that do not belong together."""
    shape = _received(Geometry, extractor.facts)
    names = {"filters", "limits", "centre", "scale"}
    with_mix = names | {"mix", "mix_scale"}
    tensors = extractor.tensors
    if set(tensors) not in (names, with_mix):
        raise RemoteError(f"patch-filters with tensors {sorted(tensors)}; there should be {sorted(names)}")
    filters = _checked(tensors, "filters", np.int8, (shape.window, None)).shape[1]
    dimensions = shape.sides * shape.grid**2 * filters
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise RemoteError(f"patch-filters of {dimensions} features; there may be 1..{MAX_DIMENSIONS}")
    if np.abs(_checked(tensors, "limits", np.int32, (2, filters)).astype(np.int64)).max() > shape.largest:
        raise RemoteError(f"extractor tensor 'limits' goes beyond any answer, {shape.largest}")
    for name in ("centre", "scale"):
        _checked(tensors, name, np.float16, (dimensions,))
    net = _net(shape, tensors)
    if set(tensors) == names:
        return Projected(net, None)
    components = _checked(tensors, "mix", np.int8, (dimensions, None)).shape[1]
    scale_k = _checked(tensors, "mix_scale", np.float16, (components,)).astype(np.float32)
    return Projected(net, Projection(tensors["mix"], scale_k))


def build_random(extractor: Extractor) -> PatchNet:
    """The function of a `random-convolutions` value. Raises RemoteError: settings that cannot be."""
    chosen = _received(RandomFilters, extractor.facts)
    if extractor.tensors:
        raise RemoteError(f"random-convolutions has no tensors, not {sorted(extractor.tensors)}")
    drawn = rng(chosen.seed, "random-convolutions").bytes(chosen.window * chosen.filters)  # bytes: equal on every platform
    filters_KF, _ = whole(np.frombuffer(drawn, np.int8).reshape(chosen.window, -1).astype(np.float64))
    unit_F = GAIN * np.sqrt((filters_KF.astype(np.float64) ** 2).sum(axis=0)) + 1
    limit_F = np.rint(unit_F * chosen.threshold_ppm / 1e6)
    unit_D = np.tile(unit_F, chosen.grid**2 * chosen.sides)
    return _exact(chosen, filters_KF, limit_F, -limit_F, _USUAL_CENTRE * unit_D, 1 / (_USUAL_SPREAD * unit_D))


def _net(shape: Geometry, tensors: dict[str, npt.NDArray[Any]]) -> PatchNet:
    high_F, low_F = tensors["limits"]
    centre_D, scale_D = tensors.get("centre", np.zeros(1)), tensors.get("scale", np.ones(1))
    return _exact(shape, tensors["filters"], high_F, low_F, centre_D, scale_D)


def _exact(shape: Geometry, filters_KF: npt.NDArray[np.int8], *constants: npt.NDArray[Any]) -> PatchNet:
    high_F, low_F, centre_D, scale_D = (array.astype(np.float32) for array in constants)
    return PatchNet(shape, filters_KF, high_F, low_F, centre_D, scale_D)


def _settings(sort: type[G], settings: dict[str, int]) -> G:
    try:
        return msgspec.convert(settings, sort)
    except msgspec.ValidationError as error:
        raise ConfigError(f"extractor settings: {error}; there are {', '.join(sort.__struct_fields__)}") from error


def _received(sort: type[G], facts: dict[str, Any]) -> G:
    try:
        return msgspec.convert(facts, sort)
    except msgspec.ValidationError as error:
        raise RemoteError(f"an extractor with settings that cannot be: {error}") from error


def _checked(
    tensors: dict[str, npt.NDArray[Any]], name: str, dtype: type[np.generic], shape: tuple[int | None, ...]
) -> npt.NDArray[Any]:
    array = tensors[name]
    fits = array.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    if array.dtype != dtype or not fits:
        raise RemoteError(f"extractor tensor {name!r} is {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}")
    return array
