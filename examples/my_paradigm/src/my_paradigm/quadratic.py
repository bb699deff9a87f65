"""Extractor `quadratic`: a vector and all products of two of its numbers, so that a linear head draws curves."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.knowledge.kinds.extractor import Extractor
from kuberml.learning.extractors import Architecture


@dataclass(frozen=True)
class Quadratic:
    """x [N, size] -> [x, x_i x_j for i <= j], float32 [N, dimensions]."""

    size: int

    @property
    def dimensions(self) -> int:
        return self.size + self.size * (self.size + 1) // 2

    def flops(self, shape: tuple[int, ...]) -> int:
        return self.dimensions - self.size

    def __call__(self, x_N: Any) -> Any:
        if x_N.shape[1:] != (self.size,):
            raise ConfigError(f"quadratic is for vectors of {self.size} numbers, not {x_N.shape[1:]}")
        i, j = np.triu_indices(self.size)
        return np.concatenate([x_N, x_N[:, i] * x_N[:, j]], axis=1).astype(np.float32)


def make(public_N: Any, seed: int) -> Extractor:
    """For a scenario: nothing is learned from the public samples but how long a vector is."""
    return Extractor("quadratic", {"size": int(public_N.shape[1])}, {})


def build(extractor: Extractor) -> Quadratic:
    """What arrives from a peer is checked before it is believed."""
    size = extractor.facts.get("size")
    if set(extractor.facts) != {"size"} or type(size) is not int or not 1 <= size <= 256 or extractor.tensors:
        raise RemoteError(f"a quadratic extractor has one setting, size from 1 to 256, not {extractor.facts}")
    return Quadratic(size)


ARCHITECTURE = Architecture(build, make)
