"""A public principal-component projection in whole numbers: nested packets, and the same bits on every machine.

Components come in falling order of variance, so the first k coordinates are the best k: a byte prefix of a packet on them is a
smaller packet. Coordinates are *not* scaled to equal variance (that costs accuracy in the tail); one common factor brings the
first into the range that packets keep.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kuberml.core.errors import ConfigError
from kuberml.learning.types import Array

STEP_LOG2 = 6
"""Features are rounded to 2^-6 before they are mixed."""
CLIP = 64.0
"""Features further out are clipped before that."""
_FIRST_SPREAD = 4.0


@dataclass(frozen=True, slots=True)
class Projection:
    """z [N, D] -> [N, k].

    Attributes:
        mix_Dk: int8, a component per column.
        scale_k: float32, what a unit of each column is worth.
    """

    mix_Dk: npt.NDArray[np.int8]
    scale_k: Array

    def __call__(self, z_ND: Array) -> Array:
        """float32 [N, k]; the products are exact in float64, as whole numbers far below 2^53."""
        steps_ND = np.rint(np.clip(z_ND, -CLIP, CLIP) * np.float32(2**STEP_LOG2)).astype(np.float64)
        mixed_Nk: Array = (steps_ND @ self.mix_Dk.astype(np.float64)).astype(np.float32)
        return mixed_Nk * (self.scale_k * np.float32(2.0**-STEP_LOG2))


def principal(z_ND: Array, components: int) -> Projection:
    """The projection on the first `components` principal components of public features z_ND, which are centred at 0.

    Raises:
        ConfigError: more components than features or samples.
    """
    if not 1 <= components <= min(z_ND.shape):
        raise ConfigError(f"components must be 1..{min(z_ND.shape)} (public samples, features), not {components}")
    _, spread, basis = np.linalg.svd(z_ND.astype(np.float64), full_matrices=False)
    factor = min(1.0, _FIRST_SPREAD * np.sqrt(len(z_ND)) / max(float(spread[0]), 1e-12))
    basis_Dk = basis[:components].T
    unit_k = np.abs(basis_Dk).max(axis=0) / 127
    scale_k = (factor * unit_k).astype(np.float16).astype(np.float32)
    return Projection(np.rint(basis_Dk / unit_k).astype(np.int8), scale_k)
