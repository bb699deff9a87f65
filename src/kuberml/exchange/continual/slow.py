"""The slower path: gradient learning from the merged head on, with replay of what is at hand, never of raw private data.

    replay      draws around each label's prototype: its mean in the sums, with the scatter within the classes (as many draws
                for a label that came first as for one that came last), and around prototypes that edges sent by themselves
    soft labels what teachers answered about the public samples, pooled (`learning.pooling`)

A *head* starts from the merged one and is trained by minibatch SGD on cross entropy; a *network* is distilled from the merged
head and the soft labels. The outcome is a candidate: its recipe names everything that it is made of, so it is made again
from its recipe, and it is judged against the exact head, on public samples that it did not learn from.
After Fed3R with fine-tuning (arXiv 2406.01116), and prototype replay by draws (F. Zhu et al., PASS, CVPR 2021).
"""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from kuberml.core import canonical
from kuberml.core.ids import Digest, digest_of
from kuberml.core.jobs import job
from kuberml.core.rng import rng
from kuberml.core.values import digest, value
from kuberml.exchange.continual.trying import per_label
from kuberml.exchange.trial import Change
from kuberml.knowledge.grid import Grid, quantise
from kuberml.knowledge.kinds.extractor import Extractor
from kuberml.knowledge.kinds.probe import Probe
from kuberml.knowledge.kinds.prototypes import Prototypes
from kuberml.knowledge.kinds.soft_labels import SoftLabels
from kuberml.knowledge.moments import Statistics
from kuberml.knowledge.ridge import Head
from kuberml.knowledge.threads import one_thread
from kuberml.learning.batching import batches, step_count
from kuberml.learning.distillation import Answers, ask
from kuberml.learning.extractors import features
from kuberml.learning.learner import Learner
from kuberml.learning.pooling import pool
from kuberml.learning.predictor import SHARPNESS, HeadOn, Network, Predictor
from kuberml.learning.types import Array, FitPlan, IntArray, Samples

Matrix = npt.NDArray[np.float64]
DOMAIN = b"kuberml.recipe/1\0"
DRAWS = 64
"""Replayed samples of each label in one epoch."""


@value
class Recipe(msgspec.Struct, frozen=True):
    """What a learned version is made of, besides the sums.

    Attributes:
        base: manifest of the sums.
        soft, prototypes: cards of what teachers sent, sorted.
        plan, seed: of the gradient steps and draws.
        learner: of a network; None: a head on the extractor.
    """

    base: Digest
    soft: tuple[Digest, ...]
    prototypes: tuple[Digest, ...]
    plan: FitPlan
    seed: int
    learner: Any = None

    @property
    def manifest(self) -> Digest:
        """The version's identity: what it is made of, and how."""
        made = [self.base, list(self.soft), list(self.prototypes), digest(self.plan), self.seed, digest(self.learner)]
        return digest_of(DOMAIN + canonical.encode(made))


@value
class Replay(msgspec.Struct, frozen=True, eq=False):
    """What is at hand to learn from: sums, prototypes and soft labels of others, and public samples without their labels."""

    sums: Statistics
    prototypes: list[Prototypes]
    soft: list[SoftLabels]
    probe: Probe | None


def to_learn(count: int) -> npt.NDArray[np.bool_]:
    """Which public samples may be learned from; the others judge. bool [N]."""
    found: npt.NDArray[np.bool_] = np.arange(count) % 2 == 0
    return found


def _flops(extractor: Extractor, start: Head, replay: Replay, plan: FitPlan, seed: int) -> int:
    d, classes = (int(size) for size in start.weights_dC.shape)
    draws = DRAWS * classes
    total: int = d**3 // 3 + 2 * draws * d * d + 6 * d * classes * (plan.steps * plan.batch or plan.epochs * draws)
    return total


@job(flops=_flops)
def tuned(extractor: Extractor, start: Head, replay: Replay, plan: FitPlan, seed: int) -> Head:
    """The merged head after some SGD on replayed draws and soft labels. Deterministic on one machine."""
    with one_thread():
        z_Nd, targets_NC = _drawn(start, replay, seed)
        if replay.soft and replay.probe is not None:
            soft_z_Nd, soft_NC = _taught(extractor, start, replay, replay.probe)
            z_Nd, targets_NC = np.concatenate([z_Nd, soft_z_Nd]), np.concatenate([targets_NC, soft_NC])
        w_dC = start.weights_dC * SHARPNESS
        velocity_dC = np.zeros_like(w_dC)
        scale = 1.0 / float((z_Nd**2).sum(axis=1).mean())  # a step of lr = 1 is about as far as the loss bends
        steps = step_count(plan, len(z_Nd))
        for batch in itertools.islice(batches(len(z_Nd), plan.batch, seed, "tune"), steps):
            p_NC = _softmax(z_Nd[batch] @ w_dC)
            gradient_dC = z_Nd[batch].T @ (p_NC - targets_NC[batch]) / len(batch)
            velocity_dC = plan.momentum * velocity_dC + gradient_dC + plan.weight_decay * w_dC
            w_dC = w_dC - plan.lr * scale * velocity_dC
    return msgspec.structs.replace(start, weights_dC=w_dC / SHARPNESS)


def _distil_flops(learner: Learner, teacher: HeadOn, replay: Replay, plan: FitPlan, seed: int) -> int:
    count = 0 if replay.probe is None else len(replay.probe)
    return count * teacher.flops_per_sample + 3 * learner.flops_per_sample * (plan.steps * plan.batch or plan.epochs * count)


@job(flops=_distil_flops)
def distilled(learner: Learner, teacher: HeadOn, replay: Replay, plan: FitPlan, seed: int) -> Network:
    """A network that learned the merged head's and the teachers' answers about public samples."""
    assert replay.probe is not None, "a network is distilled on public samples"
    answers = ask(teacher, replay.probe.inputs(), learner.labels)
    if replay.soft:
        others = pool(replay.soft, learner.labels, replay.probe.inputs())
        both_N1 = (others.mask_NC == answers.mask_NC).all(axis=1, keepdims=True)
        mixed_NC = np.where(both_N1, (answers.probs_NC + others.probs_NC) / 2, answers.probs_NC)
        answers = Answers(answers.x_N, mixed_NC, answers.mask_NC)
    none = Samples(answers.x_N[:0], np.zeros(0, np.int64), learner.labels)
    soft = answers.take(to_learn(len(replay.probe))).at(1.0, 1.0)
    return Network(learner, learner.fit(learner.init(seed), none, plan, seed, soft=soft))


@value
class Compared(msgspec.Struct, frozen=True, eq=False):
    """A learned predictor against the exact one, on public samples that it did not learn from; see `Change`."""

    change: Change
    right_C: IntArray
    exact_C: IntArray


@job(flops=lambda exact, learned, probe: (exact.flops_per_sample + learned.flops_per_sample) * len(probe))
def against(exact: HeadOn, learned: Predictor, probe: Probe) -> Compared:
    """How both answer the held half of a labelled probe, among all labels."""
    assert probe.y_N is not None, "only a labelled probe judges"
    held_N = ~to_learn(len(probe))
    y_N, x_N, classes = probe.y_N[held_N].astype(np.int64), probe.inputs()[held_N], len(probe.labels)
    was_N, now_N = (_named(one, x_N, probe) == y_N for one in (exact, learned))
    parts_N = (~was_N & now_N, was_N & ~now_N, np.ones(len(y_N), bool))
    change = Change(probe.labels, *(per_label(y_N[some_N], classes) for some_N in parts_N))
    return Compared(change, per_label(y_N[now_N], classes), per_label(y_N[was_N], classes))


def _named(predictor: Predictor, x_N: Array, probe: Probe) -> IntArray:
    place = {name: position for position, name in enumerate(probe.labels)}
    named_C = np.array([place.get(name, -1) for name in predictor.labels], np.int64)
    found: IntArray = named_C[predictor.predict(x_N).argmax(axis=1)]
    return found


def _drawn(start: Head, replay: Replay, seed: int) -> tuple[Matrix, Matrix]:
    """DRAWS samples around each prototype, with a constant before the features, and their labels one-hot."""
    sums, place = replay.sums, {label: i for i, label in enumerate(start.labels)}
    means_kC = sums.sums_dC[1:] / sums.sums_unit / sums.counts_C
    root_C = np.sqrt(sums.counts_C)
    scatter_kk = sums.gram_dd[1:, 1:] / sums.gram_unit - (means_kC * root_C) @ (means_kC * root_C).T
    scatter_kk /= max(1, sums.samples - len(sums.labels))
    scatter_kk[np.diag_indices_from(scatter_kk)] += 1e-6 * np.trace(scatter_kk) / len(scatter_kk) + 1e-12
    root_kk = np.linalg.cholesky(scatter_kk)
    centres = [(label, means_kC[:, i]) for i, label in enumerate(sums.labels)]
    lengths_C = np.sqrt((means_kC**2).sum(axis=0))
    for one in replay.prototypes:
        length = float(lengths_C.mean())
        centres += [(label, one.directions()[:, i] * length) for i, label in enumerate(one.labels) if label in place]
    z_Nd, targets_NC = [], []
    for k, (label, centre_k) in enumerate(centres):
        noise_Nk = rng(seed, "replay", k).standard_normal((DRAWS, len(centre_k)))
        z_Nd.append(np.concatenate([np.ones((DRAWS, 1)), centre_k + noise_Nk @ root_kk.T], axis=1))
        targets_NC.append(np.eye(len(place))[[place[label]] * DRAWS])
    return np.concatenate(z_Nd), np.concatenate(targets_NC)


def _taught(extractor: Extractor, start: Head, replay: Replay, probe: Probe) -> tuple[Matrix, Matrix]:
    """Public samples that teachers answered about, and their pooled answers over the head's labels."""
    answers = pool(replay.soft, start.labels, probe.inputs())
    keep_N = answers.mask_NC.all(axis=1) & to_learn(len(probe))
    grid = Grid(start.step_log2, start.clip)
    return quantise(features(extractor, probe.inputs()[keep_N]), grid) / 2**start.step_log2, answers.probs_NC[keep_N].astype(
        float
    )


def _softmax(logits_NC: Matrix) -> Matrix:
    e_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
    p_NC: Matrix = e_NC / e_NC.sum(axis=1, keepdims=True)
    return p_NC
