"""Weighted means of states, one update at a time: memory for one state, not for a cohort."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.learning.types import Array


class Mean:
    """Running weighted mean of flat float32 states [P], summed in float64. Add in a fixed order: the result is then exact."""

    def __init__(self) -> None:
        self._sum_P: npt.NDArray[np.float64] | None = None
        self.weight = 0.0

    def add(self, state_P: Array, weight: float) -> None:
        """Add one state with weight > 0 (for instance its number of samples).

        Raises:
            ConfigError: the weight is not positive. RemoteError: the state has another length than those before.
        """
        if not weight > 0:
            raise ConfigError(f"a weight must be over 0, not {weight}")
        if self._sum_P is None:
            self._sum_P = np.zeros(state_P.shape, np.float64)
        if self._sum_P.shape != state_P.shape:
            raise RemoteError(f"a state of shape {state_P.shape} cannot be averaged with {self._sum_P.shape}")
        self._sum_P += weight * state_P
        self.weight += weight

    def result(self, default_P: Array) -> Array:
        """The mean as float32 [P]; `default_P` if nothing was added."""
        return default_P if self._sum_P is None else (self._sum_P / self.weight).astype(np.float32)
