"""A linear head from statistics: one ridge solve, in one thread, with the ridge chosen from the packet alone.

W = (G + ridge I)^-1 B, the ridge added once however many packets were merged. Training error needs no data:
RSS = n - 2 tr(W^T B) + tr(W^T G W), so generalised cross-validation (Golub, Heath, Wahba 1979) needs none either:
GCV = (RSS / n) / (1 - (1/n) sum_j m_j / (m_j + ridge))^2 with the eigenvalues m of G.
"""

from __future__ import annotations

import msgspec
import numpy as np

from kuberml.core.errors import ConfigError
from kuberml.core.ids import Digest, LabelId
from kuberml.core.values import value
from kuberml.knowledge.grid import Features, FloatArray, Grid, quantise
from kuberml.knowledge.moments import Statistics
from kuberml.knowledge.threads import one_thread

RIDGES = 2.0 ** np.arange(-16, 33)
"""Candidates. Powers of two are far enough apart that rounding does not decide between them."""

DEGREES_MAX = 0.9
"""Of the samples. A head with nearly as many degrees of freedom as samples fits them all, and its GCV is 0 / 0."""


@value
class Head(msgspec.Struct, frozen=True, eq=False):
    """A linear classifier on features of an extractor.

    Attributes:
        weights_dC: float64; row 0 is the constant's.
        labels: names of the classes, [C].
        ridge: what was added to the diagonal.
        basis: the extractor's digest.
        step_log2, clip: how features are quantised, as in the statistics that it comes from.
    """

    weights_dC: FloatArray
    labels: tuple[LabelId, ...]
    ridge: float
    basis: Digest
    step_log2: int
    clip: int

    @property
    def dims(self) -> int:
        """Features that it reads: d - 1."""
        return len(self.weights_dC) - 1

    def scores(self, z_Nd: Features) -> FloatArray:
        """Scores [N, C] of features [N, at least d-1] without the constant; features beyond the head's are not read.

        Raises:
            ConfigError: too few features.
        """
        if z_Nd.ndim != 2 or z_Nd.shape[1] < self.dims:
            raise ConfigError(f"this head reads [N, {self.dims}] features, not {z_Nd.shape}")
        q_Nd = quantise(z_Nd[:, : self.dims], Grid(self.step_log2, self.clip))
        scores_NC: FloatArray = q_Nd @ (self.weights_dC / 2**self.step_log2)
        return scores_NC


def solve(stats: Statistics, ridge: float | None = None) -> Head:
    """The head of these statistics. Equal integers give an equal head on one machine.

    Costs d^3 (a solve); about ten times that without `ridge`.

    Args:
        stats: of at least one sample.
        ridge: above 0; None chooses it by generalised cross-validation.

    Raises:
        ConfigError: no samples, or a ridge that is not above 0.
    """
    if not stats.samples:
        raise ConfigError("statistics of no samples have no head")
    gram_dd, sums_dC = stats.gram_dd / stats.gram_unit, stats.sums_dC / stats.sums_unit
    with one_thread():
        chosen = choose_ridge(gram_dd, sums_dC, stats.samples) if ridge is None else ridge
        weights_dC = solve_ridge(gram_dd, sums_dC, chosen)
    return Head(weights_dC, stats.labels, float(chosen), stats.basis, stats.step_log2, stats.clip)


def solve_ridge(gram_dd: FloatArray, sums_dC: FloatArray, ridge: float) -> FloatArray:
    """(G + ridge I)^-1 B, float64 [d, C].

    Raises:
        ConfigError: ridge is not above 0 and finite.
    """
    if not 0 < ridge < float("inf"):
        raise ConfigError(f"ridge must be above 0, not {ridge}")
    regular_dd = gram_dd.copy()
    regular_dd[np.diag_indices_from(regular_dd)] += ridge
    weights_dC: FloatArray = np.linalg.solve(regular_dd, sums_dC).astype(np.float64, copy=False)
    return weights_dC


def choose_ridge(gram_dd: FloatArray, sums_dC: FloatArray, samples: int) -> float:
    """The ridge of `RIDGES` with the least generalised cross-validation score.

    Only ridges that leave at most DEGREES_MAX * samples degrees of freedom take part; the largest always does.
    """
    eigenvalues_d, vectors_dd = np.linalg.eigh(gram_dd)
    m_1d: FloatArray = np.maximum(eigenvalues_d, 0.0)[None, :]
    energy_1d = ((vectors_dd.T @ sums_dC) ** 2).sum(axis=1)[None, :]
    m_R1 = RIDGES[:, None]
    rss_R = samples - (energy_1d * (m_1d + 2 * m_R1) / (m_1d + m_R1) ** 2).sum(axis=1)
    degrees_R = (m_1d / (m_1d + m_R1)).sum(axis=1)
    allowed_R = degrees_R <= DEGREES_MAX * samples
    allowed_R[-1] = True
    score_R = np.where(allowed_R, np.maximum(rss_R, 0.0) / np.maximum(1 - degrees_R / samples, 1e-9) ** 2, np.inf)
    return float(RIDGES[int(np.argmin(score_R))])
