"""Feature extractors by name: a value (`knowledge.kinds.extractor.Extractor`) and the function that it stands for.

`features(extractor, x_N)` is the only way in. What an extractor value may run is what is registered here: its settings and
tensors choose among the abilities of an installed architecture and never bring code. `basis_of(extractor)` names the feature
space; packets are only ever merged within one.

architecture        made by                 features are                        exact on every machine
patch-filters       patch_filters           whitened filters of public images   yes
random-convolutions random_convolutions     seeded filters                      yes
identity            identity                the inputs, flattened               yes
torch-module        torch_module            answers of a registered module      no: as torch rounds there
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import digest_of
from kuberml.core.plugins import Registry
from kuberml.core.recent import Recent
from kuberml.knowledge.kinds.extractor import Extractor, basis_of, blob_of, from_blob
from kuberml.learning.image_extractors import (
    PATCH_FILTERS,
    RANDOM,
    build_patch_filters,
    build_random,
    patch_filters,
    random_convolutions,
)
from kuberml.learning.torch_extractor import TORCH, build_torch_module, make_torch_module, torch_module
from kuberml.learning.types import Array

__all__ = [
    "EXTRACTORS",
    "FeatureMap",
    "built",
    "features",
    "identity",
    "make_extractor",
    "patch_filters",
    "random_convolutions",
    "torch_module",
]

_BUILT_AT_ONCE = 8
_RECENT_BYTES = 64 * 2**20
_ONE_BYTES = 8 * 2**20


_recent: Recent[Array] = Recent(_RECENT_BYTES, lambda kept: kept.nbytes)


class FeatureMap(Protocol):
    """What an architecture makes of an extractor value: a pure function of inputs."""

    @property
    def dimensions(self) -> int:
        """Features of a sample."""
        ...

    def flops(self, shape: tuple[int, ...]) -> int:
        """Floating point operations for one sample of this shape."""
        ...

    def __call__(self, x_N: Array) -> Array:
        """float32 [N, dimensions]. Raises ConfigError: inputs of a shape that it is not for."""
        ...


@dataclass(frozen=True, slots=True)
class Architecture:
    """A registered sort of extractors.

    Attributes:
        build: extractor value -> function. Raises RemoteError: settings and tensors do not fit.
        make: (public_N, seed, **options) -> extractor value, for scenarios. `public_N` are inputs that belong to nobody,
            float32 [N, ...]; N may be 0, the shape always holds. Raises ConfigError: options that cannot be.
    """

    build: Callable[[Extractor], FeatureMap]
    make: Callable[..., Extractor]


EXTRACTORS: Registry[Architecture] = Registry("extractor", "kuberml.extractors")
EXTRACTORS.add(PATCH_FILTERS, lambda: Architecture(build_patch_filters, _make_patch_filters))
EXTRACTORS.add(RANDOM, lambda: Architecture(build_random, _make_random))
EXTRACTORS.add(TORCH, lambda: Architecture(build_torch_module, make_torch_module))
EXTRACTORS.add("identity", lambda: Architecture(_build_identity, _make_identity))


def make_extractor(name: str, public_N: Array, seed: int, **options: Any) -> Extractor:
    """An extractor as a scenario asks for it: a registered name and the options of its maker.

    Args:
        name: see the module's table.
        public_N: inputs that belong to nobody, float32 [N, ...]; an empty [0, ...] where there are none.
        seed: of whatever is drawn.
        **options: of the maker.

    Raises:
        ConfigError: unknown name or option, or a value that cannot be.
    """
    try:
        return EXTRACTORS.get(name).make(public_N, seed, **options)
    except TypeError as error:
        raise ConfigError(f"extractor {name!r} does not take {options}: {error}") from error


def features(extractor: Extractor, x_N: Array) -> Array:
    """Features of samples, float32 [N, d], without a bias.

    Those of samples that nobody can change are remembered, the last 64 MiB: every trial asks about the same held-out ones.

    Args:
        extractor: built once per process and content.
        x_N: float32 [N, H, W, channels] in 0..1, or [N, features]. Read-only ones are remembered by their content.

    Raises:
        ConfigError: its architecture is not installed, or inputs have another shape than it is for.
        RemoteError: the value cannot be built, or gives NaN or infinity.
    """
    x_N = np.asarray(x_N, np.float32)
    if x_N.flags.writeable or not 0 < x_N.nbytes <= _ONE_BYTES:
        return _features(extractor, x_N)
    return _recent.get(
        (basis_of(extractor), x_N.shape, digest_of(np.ascontiguousarray(x_N).data.cast("B"))),
        lambda: _fixed(extractor, x_N),
    )


def _fixed(extractor: Extractor, x_N: Array) -> Array:
    z_Nd = _features(extractor, x_N)
    z_Nd.flags.writeable = False
    return z_Nd


def _features(extractor: Extractor, x_N: Array) -> Array:
    z_Nd = built(extractor)(x_N)
    if not np.isfinite(z_Nd).all():
        raise RemoteError(f"the extractor {extractor.architecture!r} answers with NaN or infinity")
    return z_Nd


def built(extractor: Extractor) -> FeatureMap:
    """The function of an extractor, for its `dimensions` and `flops`. Raises as `features` does."""
    return _built(blob_of(extractor))


def identity(dimensions: int) -> Extractor:
    """Inputs as they are, flattened to `dimensions` numbers: for vectors that are ready. Raises ConfigError: less than 1."""
    if dimensions < 1:
        raise ConfigError(f"dimensions must be at least 1, not {dimensions}")
    return Extractor("identity", {"dimensions": dimensions}, {})


@dataclass(frozen=True, slots=True)
class _Identity:
    dimensions: int

    def flops(self, shape: tuple[int, ...]) -> int:
        return 0

    def __call__(self, x_N: Array) -> Array:
        if int(np.prod(x_N.shape[1:])) != self.dimensions:
            raise ConfigError(f"the extractor is for {self.dimensions} numbers a sample, not for {x_N.shape[1:]}")
        return x_N.reshape(len(x_N), self.dimensions)


def _make_patch_filters(public_N: Array, seed: int, **options: Any) -> Extractor:
    return patch_filters(public_N, **{"seed": seed, **options})


def _make_random(public_N: Array, seed: int, **options: Any) -> Extractor:
    return random_convolutions(**{"seed": seed, "channels": public_N.shape[-1], **options})


def _make_identity(public_N: Array, seed: int) -> Extractor:
    return identity(int(np.prod(public_N.shape[1:])))


def _build_identity(extractor: Extractor) -> _Identity:
    dimensions = extractor.facts.get("dimensions")
    if set(extractor.facts) != {"dimensions"} or type(dimensions) is not int or dimensions < 1 or extractor.tensors:
        raise RemoteError(f"an identity has one setting, dimensions >= 1, and no tensors; not {extractor.facts}")
    return _Identity(dimensions)


@functools.lru_cache(maxsize=_BUILT_AT_ONCE)
def _built(blob: bytes) -> FeatureMap:
    extractor = from_blob(blob)
    return EXTRACTORS.get(extractor.architecture).build(extractor)
