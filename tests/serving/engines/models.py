"""Small models that have learned something, on the digits that ship inside."""

from __future__ import annotations

import functools

import numpy as np

from kuberml.knowledge.kinds.extractor import Extractor, basis_of
from kuberml.knowledge.kinds.statistics import describe, solve
from kuberml.learning.datasets import samples
from kuberml.learning.extractors import features, patch_filters
from kuberml.learning.predictor import HeadOn, Network
from kuberml.learning.torch_learner import TorchLearner
from kuberml.learning.types import DataRef, FitPlan, Samples

SHAPE = (8, 8, 1)


@functools.cache
def digits(split: str = "test") -> Samples:
    """All digits of a split."""
    count = {"train": 900, "test": 500}[split]
    return samples(DataRef("digits", split, np.arange(count, dtype=np.int32)))


@functools.cache
def head_on_patches() -> tuple[HeadOn, Samples]:
    """A ridge head on filters, and samples that it has not seen."""
    return head_on(patch_filters(digits("train").x_N[:300], patch=3, grid=2, filters=24)), digits()


def head_on(extractor: Extractor) -> HeadOn:
    """A ridge head on any extractor."""
    taught = digits("train")
    names = [taught.labels[position] for position in taught.y_N]
    stats, _ = describe(features(extractor, taught.x_N), names, basis=basis_of(extractor))
    return HeadOn(extractor, solve(stats, 1.0), SHAPE)


@functools.cache
def network(model: str = "lenet", steps: int = 150) -> Network:
    """A torch network, trained for a second."""
    learner = TorchLearner(model, SHAPE, digits().labels)
    state = learner.fit(learner.init(0), digits("train"), FitPlan(lr=0.1, steps=steps, momentum=0.9), seed=0)
    return Network(learner, state)
