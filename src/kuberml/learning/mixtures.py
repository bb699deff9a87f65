"""Gaussian mixtures of features, one for each label: fitted, packed as weights, drawn from, and a head trained on the draws.

Legend: N samples, L labels in a packet, K components, d features, D numbers of a covariance (1: spherical, d: diagonal).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np

from kuberml.core.errors import RemoteError
from kuberml.core.ids import LabelId
from kuberml.core.jobs import job
from kuberml.core.rng import rng, seed_of
from kuberml.core.values import value
from kuberml.knowledge.kinds.extractor import Extractor, basis_of
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.threads import one_thread
from kuberml.knowledge.withholding import publishable
from kuberml.learning.datasets import samples
from kuberml.learning.extractors import built, features
from kuberml.learning.head_learner import HeadLearner
from kuberml.learning.types import Array, DataRef, FitPlan

Form = Literal["spherical", "diagonal"]
LEAST_VARIANCE = 1e-6
LARGEST = 1e6
MAX_DRAWN = 10**6
"""Features that are drawn at most for one packet: its counts are somebody's word."""


@value
class Mixtures(msgspec.Struct, frozen=True, eq=False):
    """One packet.

    Attributes:
        counts: samples of each of the L labels, by sorted name.
        means_LKd, variances_LKD, shares_LK: float32; a component without a share is no component.
    """

    counts: dict[LabelId, int]
    means_LKd: Array
    variances_LKD: Array
    shares_LK: Array


def fit_mixture(z_Nd: Any, components: int, form: Form, seed: int, steps: int = 30) -> tuple[Any, Any, Any]:
    """Means [K, d], variances [K, D] and shares [K] by expectation-maximisation in float64, from K different samples."""
    z_Nd = np.asarray(z_Nd, np.float64)
    count, d = z_Nd.shape
    k = min(components, count)
    means_Kd = z_Nd[rng(seed, "mixture").choice(count, k, replace=False)]
    variances_KD = np.full((k, 1 if form == "spherical" else d), max(LEAST_VARIANCE, float(z_Nd.var(axis=0).mean())))
    shares_K = np.full(k, 1 / k)
    for _ in range(steps if k > 1 else 1):
        apart_NKd = z_Nd[:, None, :] - means_Kd
        each_KD = variances_KD if variances_KD.shape[1] == d else np.repeat(variances_KD, d, axis=1)
        log_NK = np.log(np.maximum(shares_K, 1e-300)) - 0.5 * (apart_NKd**2 / each_KD + np.log(each_KD)).sum(axis=2)
        chance_NK = np.exp(log_NK - log_NK.max(axis=1, keepdims=True))
        chance_NK /= chance_NK.sum(axis=1, keepdims=True)
        weight_K = np.maximum(chance_NK.sum(axis=0), 1e-12)
        means_Kd = chance_NK.T @ z_Nd / weight_K[:, None]
        spread_Kd = (chance_NK[:, :, None] * (z_Nd[:, None, :] - means_Kd) ** 2).sum(axis=0) / weight_K[:, None]
        variances_KD = np.maximum(spread_Kd.mean(axis=1, keepdims=True) if form == "spherical" else spread_Kd, LEAST_VARIANCE)
        shares_K = weight_K / weight_K.sum()
    return means_Kd, variances_KD, shares_K


def _describe_flops(extractor: Extractor, data: DataRef, components: int, *_: Any) -> int:
    function = built(extractor)
    shape = samples(data).x_N.shape[1:]
    a_sample: int = function.flops(shape) + (30 if components > 1 else 1) * 8 * components * function.dimensions
    return len(data) * a_sample


@job(flops=_describe_flops)
def describe(extractor: Extractor, data: DataRef, components: int, form: Form, min_class_count: int, seed: int) -> Mixtures:
    """Mixtures of private samples' features, of the labels that have enough of them; the others are left out."""
    own = samples(data)
    z_Nd = features(extractor, own.x_N)
    names = np.array([own.labels[position] for position in own.y_N], object)
    kept, _ = publishable(names.tolist(), min_class_count, {})
    labels = sorted({str(names[index]) for index in kept})
    d, width = z_Nd.shape[1], 1 if form == "spherical" else z_Nd.shape[1]
    means, shares = np.zeros((len(labels), components, d)), np.zeros((len(labels), components))
    variances = np.full((len(labels), components, width), LEAST_VARIANCE)
    counts = {}
    with one_thread():
        for place, label in enumerate(labels):
            mine_Nd = z_Nd[names == label]
            found = fit_mixture(mine_Nd, components, form, seed_of(seed, label))
            k = len(found[2])
            means[place, :k], variances[place, :k], shares[place, :k] = found
            counts[label] = len(mine_Nd)
    return Mixtures(counts, *(part.astype(np.float32) for part in (means, variances, shares)))


def packed(found: Mixtures, extractor: Extractor, *, half: bool) -> Weights:
    """As weights; `half`: in 16 bits."""
    tensors = {"means": found.means_LKd, "variances": found.variances_LKD, "shares": found.shares_LK}
    wire: Literal["fp16", "fp32"] = "fp16" if half else "fp32"
    return Weights(tensors, dict(found.counts), tuple(sorted(found.counts)), wire, basis_of(extractor))


def unpacked(weights: Any, learner: HeadLearner) -> Mixtures:
    """The mixtures of `packed`. Raises RemoteError: they are none, or of other features or labels than the learner's."""
    if not isinstance(weights, Weights) or set(weights.tensors) != {"means", "variances", "shares"}:
        raise RemoteError("mixtures come as weights with means, variances and shares")
    if weights.basis != basis_of(learner.extractor) or not set(weights.labels) <= set(learner.labels):
        raise RemoteError("mixtures of other features, or of labels that are not this task's")
    means, variances, shares = (weights.tensors[name] for name in ("means", "variances", "shares"))
    rows = len(weights.labels)
    if not rows:
        raise RemoteError("mixtures of no label")
    if shares.ndim != 2 or shares.shape[0] != rows or not 1 <= shares.shape[1] <= 64:
        raise RemoteError(f"shares are [{rows}, 1..64], not {list(shares.shape)}")
    if means.shape != (*shares.shape, learner.d) or variances.shape not in ((*shares.shape, 1), means.shape):
        raise RemoteError(f"means {list(means.shape)} and variances {list(variances.shape)} do not fit {learner.d} features")
    if max(np.abs(means).max(), variances.max()) > LARGEST:
        raise RemoteError(f"means and variances of features are not over {LARGEST:g}")
    if not (variances >= 0).all() or not (shares >= 0).all() or not (shares.sum(axis=1) > 0).all():
        raise RemoteError("variances and shares are 0 or more, and every label has a share")
    if sum(weights.labels.values()) > MAX_DRAWN:
        raise RemoteError(f"a packet on more than {MAX_DRAWN} samples")
    parts = (part.astype(np.float32) for part in (means, variances, shares))
    return Mixtures(dict(sorted(weights.labels.items())), *parts)


def draw(packets: list[Mixtures], labels: tuple[LabelId, ...], seed: int) -> tuple[Array, Any]:
    """As many features of each packet's labels as it counts: float32 [N, d] and positions in `labels`, int64 [N]."""
    z, y = [], []
    for number, packet in enumerate(packets):
        for place, (label, count) in enumerate(packet.counts.items()):
            stream = rng(seed, "draw", number, label)
            shares_K = packet.shares_LK[place].astype(np.float64)
            which_n = stream.choice(len(shares_K), count, p=shares_K / shares_K.sum())
            noise_nd = stream.standard_normal((count, packet.means_LKd.shape[2]))
            z.append(packet.means_LKd[place][which_n] + np.sqrt(packet.variances_LKD[place][which_n]) * noise_nd)
            y.append(np.full(count, labels.index(label), np.int64))
    return np.concatenate(z).astype(np.float32), np.concatenate(y)


def _head_flops(learner: HeadLearner, packets: list[Mixtures], plan: FitPlan, seed: int) -> int:
    count = sum(sum(packet.counts.values()) for packet in packets)
    return count * (plan.epochs * 6 * (learner.d + 1) * len(learner.labels) + 10 * learner.d)


@job(flops=_head_flops)
def head_of(learner: HeadLearner, packets: list[Mixtures], plan: FitPlan, seed: int) -> Array:
    """A softmax head trained on features drawn from the packets: a state of the learner."""
    z_Nd, y_N = draw(packets, learner.labels, seed)
    return learner.fit_features(learner.init(seed), z_Nd, np.eye(len(learner.labels), dtype=np.float32)[y_N], plan, seed)
