"""Filters in whole numbers, learned from public images.

The recipe of Coates, Ng and Lee (AISTATS 2011): patches are normalised and whitened; filters are some of them, or their
principal directions. Whitening, mean and scale are folded into the filters, which are then rounded to int8 with zero sum.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from kuberml.core.errors import ConfigError, nearest
from kuberml.core.rng import rng
from kuberml.learning.patchnet import GAIN, Geometry
from kuberml.learning.types import Array

Floats = npt.NDArray[np.float64]
Choice = Literal["patches", "principal"]

PATCHES = 20_000
"""Patches that filters are learned from, at most."""
_LARGEST = 127


class Bank(NamedTuple):
    """F filters and what an answer of each means.

    Attributes:
        filters_KF: int8, each column sums to 0.
        unit_F: steps in one unit of the filter's real-valued answer.
        offset_F: answer to the mean patch, in those units: what thresholds are counted from.
    """

    filters_KF: npt.NDArray[np.int8]
    unit_F: Floats
    offset_F: Floats


def learn(public_N: Array, geometry: Geometry, filters: int, *, choose: Choice, whitening: float, seed: int) -> Bank:
    """Filters from the patches of public images [N, H, W, C]; the arguments are those of `image_extractors.patch_filters`.

    Raises:
        ConfigError: more filters than the patches have directions or than there are patches; an unknown choice.
    """
    patches_MK = _normalised(_drawn(public_N, geometry, seed), geometry)
    mean_K = patches_MK.mean(axis=0)
    variance_K, basis_KK = np.linalg.eigh(np.cov(patches_MK.T))
    whiten_KK = (basis_KK / np.sqrt(variance_K + whitening)) @ basis_KK.T
    limits = {"patches": len(patches_MK), "principal": geometry.window - 1}
    if choose not in limits:
        raise ConfigError(f"choose: unknown {choose!r}; {nearest(choose, limits)}")
    if not 1 <= filters <= limits[choose]:
        raise ConfigError(f"filters must be 1..{limits[choose]} with choose={choose!r} on these images, not {filters}")
    if choose == "principal":
        direction_FK = basis_KK.T[::-1][:filters]
    else:
        chosen = rng(seed, "filters").choice(len(patches_MK), filters, replace=False)
        direction_FK = (patches_MK[chosen] - mean_K) @ whiten_KK
    norm_F = np.linalg.norm(direction_FK, axis=1)
    if norm_F.min() < 1e-9:
        raise ConfigError("public images have patches without any contrast: use others, or another seed")
    weights_KF = whiten_KK @ (direction_FK / norm_F[:, None]).T
    whole_KF, step_F = whole(weights_KF)
    return Bank(whole_KF, GAIN * step_F, mean_K @ weights_KF)


def whole(weights_KF: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """int8 filters and how many steps stand for 1.0; columns sum to 0, so a patch's brightness does not matter.

    Rounding leaves a small sum in a column: it is taken from the weights that rounding moved furthest that way.
    """
    centred_KF = weights_KF - weights_KF.mean(axis=0)
    step_F = (_LARGEST - 1) / np.maximum(np.abs(centred_KF).max(axis=0), 1e-12)  # one step is left for the correction
    scaled_KF = centred_KF * step_F
    whole_KF = np.rint(scaled_KF).astype(np.int64)
    for column in range(whole_KF.shape[1]):
        excess = int(whole_KF[:, column].sum())
        error_K = (whole_KF[:, column] - scaled_KF[:, column]) * np.sign(excess)
        most = np.argsort(-error_K, kind="stable")[: abs(excess)]  # |excess| <= K/2: each weight moves by one at most
        whole_KF[most, column] -= np.sign(excess)
    return whole_KF.astype(np.int8), step_F


def _drawn(public_N: Array, geometry: Geometry, seed: int) -> Floats:
    views = geometry.patches(public_N)
    images, rows, columns = views.shape[:3]
    total = images * rows * columns
    chosen = rng(seed, "patches").choice(total, min(total, PATCHES), replace=False)
    some = views[chosen // (rows * columns), chosen // columns % rows, chosen % columns]
    pixels_MK: Floats = some.reshape(len(chosen), -1).astype(np.float64) / geometry.levels
    return pixels_MK


def _normalised(patches_MK: Floats, geometry: Geometry) -> Floats:
    centred_MK = patches_MK - patches_MK.mean(axis=1, keepdims=True)
    spread_M1 = np.sqrt((centred_MK**2).mean(axis=1, keepdims=True) + geometry.floor_ppm / 1e6)
    normalised_MK: Floats = centred_MK / spread_M1
    return normalised_MK
