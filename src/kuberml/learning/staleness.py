"""Weights by staleness, and how a node learns them: from the gradient of its loss at the averaged model.

After FedASMU (J. Liu et al., AAAI 2024, arXiv 2312.05770), where nobody is the centre; a reconstruction. Its factor 1 / sqrt(t)
is left out: models that mix less and less while the steps stay as they are do not stay together.

Plain numbers in float64; S: neighbours that were pulled from, P: weights of a model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from kuberml.core.values import value
from kuberml.learning.types import Array

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@value
class Control(msgspec.Struct, frozen=True):
    """How much a neighbour is trusted that is tau versions behind: lam (1 + tau)^-sigma + iota."""

    lam: float = 1.0
    sigma: float = 0.5
    iota: float = 0.1


@value
class Bounds(msgspec.Struct, frozen=True):
    """Where the control parameters stay. `iota_min` > 0 keeps models mixing, whatever is learned."""

    lam_max: float = 4.0
    sigma_max: float = 2.0
    iota_min: float = 0.05
    iota_max: float = 1.0


def trust(control: Control, staleness_S: Floats) -> Floats:
    """Xi [S] of neighbours that are so many versions behind."""
    xi_S: Floats = control.lam * (1 + staleness_S) ** -control.sigma + control.iota
    return xi_S


def by_staleness(control: Control, staleness_S: Floats, samples_S: Floats, mu: float = 1.0) -> Floats:
    """Weights [S] of neighbours against one's own weight of 1: mu n_j / (mean of n) xi_j. Divide all by 1 + their sum.

    With mu = xi = 1 it is the plain average; with one neighbour it is FedASMU's alpha = mu xi / (1 + mu xi).
    """
    weights_S: Floats = mu * samples_S / samples_S.mean() * trust(control, staleness_S)
    return weights_S


def pulls(gradient_P: Array, mean_P: Array, total_P: Floats, others: Sequence[tuple[Array, Mask | None]]) -> Floats:
    """<g, d mean / d b_j> [S]: how the loss answers to the weight b_j of each neighbour, a (state [P], mask [P] or None).

    Args:
        gradient_P: of the loss at the mean.
        mean_P, total_P: from `sparsity.mean_of_holders`, with own weight 1 and `by_staleness` weights.
        others: what was averaged besides one's own state.
    """
    slope_P = gradient_P / np.where(total_P > 0, total_P, 1)
    found = [slope_P @ (state_P - mean_P if mask_P is None else mask_P * (state_P - mean_P)) for state_P, mask_P in others]
    return np.array(found, np.float64)


def scale_free(pulls_S: Floats, gradient_P: Array, mean_P: Array, others: Sequence[tuple[Array, Mask | None]]) -> Floats:
    """`pulls` [S], divided by |g| |w_j - w|: between -1 and 1 (times what a weight moves the mean), whatever the model."""
    size = float(np.linalg.norm(gradient_P))
    far = [np.linalg.norm(s_P - mean_P if m_P is None else m_P * (s_P - mean_P)) for s_P, m_P in others]
    scale_S = size * np.array(far, np.float64)
    return np.divide(pulls_S, scale_S, out=np.zeros_like(pulls_S), where=scale_S > 0)


def control_gradient(
    control: Control, staleness_S: Floats, samples_S: Floats, pulls_S: Floats, mu: float = 1.0
) -> tuple[float, float, float]:
    """D loss / d (lam, sigma, iota) = sum_j mu n_j / (mean of n) (d xi_j / d theta) <g, d mean / d b_j>."""
    fall_S = (1 + staleness_S) ** -control.sigma
    scaled_S = mu * samples_S / samples_S.mean() * pulls_S
    by_sigma_S = -control.lam * np.log1p(staleness_S) * fall_S
    return float(scaled_S @ fall_S), float(scaled_S @ by_sigma_S), float(scaled_S.sum())


def learned(control: Control, gradient: tuple[float, float, float], lr: float, bounds: Bounds) -> Control:
    """One step down the gradient, back into the bounds. A gradient that is not finite changes nothing."""
    if not all(math.isfinite(part) for part in gradient):
        return control
    return Control(
        lam=min(max(control.lam - lr * gradient[0], 0.0), bounds.lam_max),
        sigma=min(max(control.sigma - lr * gradient[1], 0.0), bounds.sigma_max),
        iota=min(max(control.iota - lr * gradient[2], bounds.iota_min), bounds.iota_max),
    )


def adjusted(
    control: Control,
    staleness_S: Floats,
    samples_S: Floats,
    gradient_P: Array,
    mean_P: Array,
    total_P: Floats,
    others: Sequence[tuple[Array, Mask | None]],
    *,
    mu: float,
    lr: float,
) -> Control:
    """The parameters after one step of a length that does not depend on the model; see `pulls` for the arguments."""
    pulls_S = scale_free(pulls(gradient_P, mean_P, total_P, others), gradient_P, mean_P, others)
    return learned(control, control_gradient(control, staleness_S, samples_S, pulls_S, mu), lr, Bounds())
