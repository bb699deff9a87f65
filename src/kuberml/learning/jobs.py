"""The work of learning as jobs: thin wrappers over pure functions, each with what it costs.

Values go to jobs by position; a cost function takes what its job takes. Costs are floating point operations: a forward pass 1,
a training step 3 (forward, and the gradients of inputs and weights).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kuberml.core.ids import LabelId
from kuberml.core.jobs import job
from kuberml.knowledge.kinds.extractor import Extractor, basis_of
from kuberml.knowledge.kinds.probe import Probe, probe_of
from kuberml.knowledge.kinds.soft_labels import Form, SoftLabels
from kuberml.knowledge.kinds.statistics import Head, Statistics, describe, solve
from kuberml.knowledge.soften import soften
from kuberml.learning import distillation, evaluation
from kuberml.learning.batching import samples_seen, step_count
from kuberml.learning.datasets import DATASETS, samples
from kuberml.learning.extractors import built, features
from kuberml.learning.learner import Learner, State
from kuberml.learning.predictor import Predictor
from kuberml.learning.steering import Steering, steerable
from kuberml.learning.types import Array, DataRef, FitPlan, Scores

Grid = tuple[distillation.Setting, ...]

TRAINING = 3
"""A training step in forward passes."""


def training_flops(learner: Learner, plan: FitPlan, count: int, taught: int = 0) -> int:
    """Of one fit on `count` samples and `taught` soft targets: every sample that a batch holds, forward and backward.

    What a learner has frozen (`frozen_flops_per_sample`, of an extractor) it computes once a sample and fit.
    """
    steps = step_count(plan, count, taught)
    seen = samples_seen(count, plan.batch, steps) + samples_seen(taught, plan.batch, steps)
    frozen: int = getattr(learner, "frozen_flops_per_sample", 0)
    return TRAINING * (learner.flops_per_sample - frozen) * seen + frozen * (count + taught)


def predict_flops(predictor: Predictor, data: DataRef) -> int:
    """Of `score` and `predict`."""
    return predictor.flops_per_sample * len(data)


@job(flops=lambda learner, seed: 0)
def init_state(learner: Learner, seed: int) -> State:
    """The learner's state before anything was learned."""
    return learner.init(seed)


@job(flops=lambda learner: 0)
def measure(learner: Learner) -> tuple[int, int]:
    """Floating point operations of one sample's forward pass, and the length of a state."""
    return learner.flops_per_sample, learner.size  # type: ignore[attr-defined]  # of the PyTorch adapter


@job(flops=lambda learner, state, data, plan, seed: training_flops(learner, plan, len(data)))
def fit(learner: Learner, state: State, data: DataRef, plan: FitPlan, seed: int) -> State:
    """Go on learning from `state` on private data."""
    return learner.fit(state, samples(data), plan, seed)


@job(flops=lambda learner, state, data, plan, seed, steering: training_flops(learner, plan, len(data)))
def fit_steered(learner: Learner, state: State, data: DataRef, plan: FitPlan, seed: int, steering: Steering) -> State:
    """As `fit`, pulled by a steering; its few operations for each weight are not counted.

    Raises:
        ConfigError: the learner cannot be steered, or not by this.
    """
    return steerable(learner).fit(state, samples(data), plan, seed, steering=steering)


@job(flops=predict_flops)
def score(predictor: Predictor, data: DataRef) -> Scores:
    """Right answers per label."""
    return evaluation.score(predictor, samples(data))


@job(flops=predict_flops)
def predict(predictor: Predictor, data: DataRef) -> Array:
    """Log-probabilities of the samples, float32 [N, C]."""
    return predictor.predict(samples(data).x_N)


def describe_flops(extractor: Extractor, data: DataRef, *_: Any) -> int:
    """Of `describe_own`: the features, and n d² multiply-adds of the Gram matrix."""
    function = built(extractor)
    d = 1 + function.dimensions
    a_sample: int = function.flops(DATASETS.get(data.dataset).shape) + 2 * d * d
    return len(data) * a_sample


@job(flops=describe_flops)
def describe_own(
    extractor: Extractor, data: DataRef, min_class_count: int = 5, step_log2: int = 8
) -> tuple[Statistics, Statistics, dict[LabelId, int]]:
    """One's own data in two parts: statistics that may be published, statistics that may not, and samples withheld per label.

    The second are of the labels with fewer than `min_class_count` samples. Their sum is the statistics of everything.
    """
    own = samples(data)
    z_Nd, basis = features(extractor, own.x_N), basis_of(extractor)
    names = [own.labels[position] for position in own.y_N]
    shared, withheld = describe(z_Nd, names, basis=basis, min_class_count=min_class_count, step_log2=step_log2)
    rest = [i for i, name in enumerate(names) if name in withheld]
    private, _ = describe(z_Nd[rest], [names[i] for i in rest], basis=basis, min_class_count=1, step_log2=step_log2)
    return shared, private, withheld


def solve_flops(statistics: Statistics, ridge: float | None = None) -> int:
    """Of `solve_head`: 2/3 d³ for the solve and 2 d² for each label; choosing the ridge decomposes first, about 9 d³."""
    d, classes = len(statistics.gram_dd), len(statistics.labels)
    return 2 * d**3 // 3 + 2 * d * d * classes + (9 * d**3 if ridge is None else 0)


@job(flops=solve_flops)
def solve_head(statistics: Statistics, ridge: float | None = None) -> Head:
    """The head of these statistics; without `ridge` it is chosen by generalised cross-validation."""
    return solve(statistics, ridge)


@job(flops=lambda predictor, probe, *_: predictor.flops_per_sample * len(probe))
def soft_labels(
    predictor: Predictor, probe: Probe, known: dict[LabelId, int], form: Form = "dense-log8", k: int = 3, seed: int = 0
) -> SoftLabels:
    """A teacher's answers about all of a probe; `known`: samples of each label that it learned from. See `knowledge.soften`."""
    ids_N = np.arange(len(probe), dtype=np.int32)
    answers_NC = predictor.predict(probe.inputs())
    return soften(
        answers_NC, predictor.labels, known=known, probe=probe_of(probe), sample_ids_N=ids_N, form=form, k=k, seed=seed
    )


def distil_flops(learner: Learner, train: DataRef, heldout: DataRef, answers: int, plan: FitPlan, grid: Grid) -> int:
    """Of a distillation, at most: a fit and a test of each candidate, then of the best on all; refining is a fit too."""
    held, forward = distillation.held_count(answers), learner.flops_per_sample
    fits = sum(1 + setting.refine for setting in grid)
    tests = (len(grid) + 2) * forward * len(heldout) + len(grid) * forward * held
    last = (1 + max(setting.refine for setting in grid)) * training_flops(learner, plan, len(train), answers)
    return fits * training_flops(learner, plan, len(train), answers - held) + tests + last


def _distil_flops(learner: Learner, _: State, train: DataRef, heldout: DataRef, *rest: Any) -> int:
    teacher, probe, plan, _seed, *grid = rest
    asked: int = teacher.flops_per_sample * (len(train) + len(probe))  # once to calibrate it, once to learn from it
    return asked + distil_flops(learner, train, heldout, len(probe), plan, grid[0] if grid else distillation.GRID)


@job(flops=_distil_flops)
def distil(
    learner: Learner,
    state: State,
    train: DataRef,
    heldout: DataRef,
    teacher: Predictor,
    probe: Probe,
    plan: FitPlan,
    seed: int,
    grid: Grid = distillation.GRID,
    tolerance: float = distillation.TOLERANCE,
) -> State:
    """The learner's state after learning from one teacher's answers on a probe, tuned; `state` itself if it would forget."""
    own = samples(train)
    answers = distillation.ask(teacher, probe.inputs(), learner.labels, own=own)
    found = distillation.distil(
        learner, state, own, samples(heldout), answers, plan=plan, seed=seed, grid=grid, tolerance=tolerance
    )
    return found.state
