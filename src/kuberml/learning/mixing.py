"""Weights of decentralised averaging: who counts how much in a node's next model, and what that does to whom models serve.

Nodes i = 1..n pull: w_i <- sum_j a_ij w_j, rows of A sum to 1. For small steps such a system goes down sum_i q_i F_i, where q
is the left Perron vector of the average A, whatever the nodes' speeds; pairwise symmetric averaging goes down sum_i r_i F_i,
with the nodes' rates r. So pulling with weights that keep q proportional to the samples is fair to slow nodes, staleness
weights are not (`staleness`), and a node that knows its q can divide its step by it (`next_ratio`).

Plain numbers in float64; S: neighbours that were pulled from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from kuberml.learning.types import Array

Floats = npt.NDArray[np.float64]


def metropolis(samples: float, degree: int, others: Sequence[tuple[float, int]]) -> tuple[float, Floats]:
    """Own weight and those of neighbours [S] given as (samples, degree): a_ij = min(1 / (d_i + 1), (n_j / n_i) / (d_j + 1)).

    n_i a_ij is symmetric, so q is proportional to the samples. Neighbours that were not reached are left out: their weight
    stays with the node itself.
    """
    weights_S = np.array([min(1 / (degree + 1), (count / samples) / (beyond + 1)) for count, beyond in others])
    return 1.0 - float(weights_S.sum()), weights_S


def symmetric(one: dict[str, Array], two: dict[str, Array]) -> dict[str, Array]:
    """(a + b) / 2 of each vector, rounded once, in its own dtype: the same on both sides of an exchange."""
    return {name: ((part.astype(np.float64) + two[name]) / 2).astype(part.dtype) for name, part in one.items()}


def next_average(average: Mapping[str, float], weights: Mapping[str, float], count: int) -> dict[str, float]:
    """The running average of a node's weights, by neighbour, after `weights` as the count-th (from 1); who is missing has 0."""
    names = sorted({*average, *weights})
    return {name: average.get(name, 0.0) + (weights.get(name, 0.0) - average.get(name, 0.0)) / count for name in names}


def next_ratio(ratio: float, average: Mapping[str, float], told: Mapping[str, tuple[float, float | None, float]]) -> float:
    """q_i / p_i, once more: this node's share in what the system minimises over the share of its samples, which should be 1.

    Distributed PageRank: q_i <- sum_j a_ji q_j, with p_i divided out, so that nobody needs to know n.

    Args:
        ratio: as it is now; begin with 1.
        average: the average weight that the node gives each neighbour.
        told: of each neighbour j: its ratio, its average weight on i (None: it has not averaged yet), and n_j / n_i. Who has
            said nothing is taken to give back what it gets.
    """
    total = (1 - sum(average.values())) * ratio
    for name, given in average.items():
        theirs, weight, samples = told.get(name, (ratio, None, 1.0))
        total += given * ratio if weight is None else theirs * weight * samples
    return total


def step_factor(ratio: float, low: float = 0.2, high: float = 5.0) -> float:
    """What to multiply the step by: 1 / ratio, clipped, since a large step drives nodes apart."""
    return min(max(1 / ratio, low), high) if ratio > 0 else high
