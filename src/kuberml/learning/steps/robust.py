"""Means that some liars among the clients cannot move far. N updates of P values; all count alike.

Median and trimmed mean: D. Yin, Y. Chen, K. Ramchandran, P. Bartlett: Byzantine-Robust Distributed Learning: Towards Optimal
Statistical Rates. ICML 2018. Krum, multi-Krum: P. Blanchard, E. M. El Mhamdi, R. Guerraoui, J. Stainer: Machine Learning with
Adversaries: Byzantine Tolerant Gradient Descent. NeurIPS 2017. Centred clipping: S. P. Karimireddy, L. He, M. Jaggi: Learning
from History for Byzantine Robust Optimization. ICML 2021, equation (CC).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kuberml.core.errors import ConfigError
from kuberml.core.jobs import job
from kuberml.learning.types import Array


def _median_flops(updates: list[Array]) -> int:
    count = len(updates)
    return count * max(1, count.bit_length()) * (updates[0].size if updates else 0)


def _krum_flops(updates: list[Array], *_: int) -> int:
    return len(updates) ** 2 * 3 * (updates[0].size if updates else 0)


@job(flops=_median_flops)
def median(updates: list[Array]) -> Array:
    """The median of each value, float32 [P]; of an even number the mean of the middle two."""
    return np.median(np.stack(updates), axis=0).astype(np.float32)


@job(flops=lambda updates, share: _median_flops(updates))
def trimmed_mean(updates: list[Array], share: float) -> Array:
    """The mean of each value without its floor(share N) smallest and as many largest, float32 [P].

    Raises:
        ConfigError: nothing would be left.
    """
    cut = int(share * len(updates))
    if 2 * cut >= len(updates):
        raise ConfigError(f"trimming {cut} of {len(updates)} updates at both ends leaves none: share = {share} is too much")
    sorted_NP = np.sort(np.stack(updates), axis=0)
    return np.asarray(sorted_NP[cut : len(updates) - cut].mean(axis=0, dtype=np.float64), np.float32)


def krum_scores(updates: list[Array], liars: int) -> npt.NDArray[np.float64]:
    """Each update's sum of squared distances to its N - liars - 2 nearest others, float64 [N].

    Raises:
        ConfigError: N < 2 liars + 3, under which Krum promises nothing.
    """
    count = len(updates)
    if count < 2 * liars + 3:
        raise ConfigError(f"Krum against {liars} liars needs {2 * liars + 3} updates or more, not {count}")
    square_NN = np.zeros((count, count))
    for i, one_P in enumerate(updates):  # not by |a|² - 2ab + |b|², which loses small distances between long vectors
        for k in range(i):
            square_NN[i, k] = square_NN[k, i] = float(np.sum((one_P.astype(np.float64) - updates[k]) ** 2))
    np.fill_diagonal(square_NN, np.inf)
    return np.asarray(np.sort(square_NN, axis=1)[:, : count - liars - 2].sum(axis=1))


@job(flops=_krum_flops)
def krum(updates: list[Array], liars: int, keep: int) -> list[int]:
    """Places of the `keep` updates with the lowest scores, rising; of equal scores the first. 1: Krum, more: multi-Krum.

    Raises:
        ConfigError: see `krum_scores`.
    """
    return sorted(np.argsort(krum_scores(updates, liars), kind="stable")[:keep].tolist())


@job(flops=lambda updates, centre_P, radius, passes: 3 * passes * len(updates) * centre_P.size)
def centred_clip(updates: list[Array], centre_P: Array, radius: float, passes: int) -> Array:
    """`passes` times v <- v + mean over i of (x_i - v) min(1, radius / |x_i - v|), from v = centre_P; float32 [P]."""
    at_P = centre_P.astype(np.float64)
    for _ in range(passes):
        moved_P = np.zeros_like(at_P)
        for update_P in updates:
            away_P = update_P - at_P
            length = float(np.linalg.norm(away_P))
            moved_P += away_P * min(1.0, radius / length) if length > 0 else 0.0
        at_P = at_P + moved_P / len(updates)
    return at_P.astype(np.float32)
