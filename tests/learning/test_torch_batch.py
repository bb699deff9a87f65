"""Stacks of learners against one learner after the other: the same numbers within rounding. On a CPU; on a GPU where one is."""

import numpy as np
import pytest
import torch

from kuberml.core.errors import ConfigError
from kuberml.learning.datasets import DATASETS
from kuberml.learning.torch_batch import fit_together, why_not
from kuberml.learning.torch_learner import TorchLearner
from kuberml.learning.types import FitPlan, Samples

LABELS = tuple("0123456789")
PLANS = [FitPlan(lr=0.1, epochs=2), FitPlan(lr=0.05, steps=9, momentum=0.9, weight_decay=1e-3)]
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
TOLERANCE = 2e-3
"""Of the farthest that a weight moves."""


def parts(count, size=50):
    train = DATASETS.get("digits").split("train")
    cuts = [slice(i * size, (i + 1) * size) for i in range(count)]
    return [Samples(train.x_N[cut], train.y_N[cut], train.labels) for cut in cuts]


def stacked(name, plan, device="cpu", group=4):
    learner, samples = TorchLearner(name, (8, 8, 1), LABELS, device=device), parts(3)
    states = [learner.init(seed) for seed in range(3)]
    together = fit_together(learner, states, samples, plan, [5, 6, 7], group=group)
    alone = [learner.fit(state, one, plan, seed) for state, one, seed in zip(states, samples, [5, 6, 7], strict=True)]
    return states, together, alone


@pytest.mark.parametrize("name", ["linear", "mlp", "lenet", "resnet8"])
@pytest.mark.parametrize("plan", PLANS)
def test_a_stack_is_the_engine_within_rounding(name, plan):
    states, together, alone = stacked(name, plan)
    for before, one, other in zip(states, together, alone, strict=True):
        moved = np.abs(other - before).max()
        assert moved > 5e-3
        assert np.abs(one - other).max() < TOLERANCE * moved


def test_who_else_is_in_the_stack_does_not_show():
    learner, samples, plan = TorchLearner("lenet", (8, 8, 1), LABELS), parts(4), PLANS[0]
    states = [learner.init(seed) for seed in range(4)]
    every = fit_together(learner, states, samples, plan, [0, 1, 2, 3], group=4)
    for i in range(4):
        (alone,) = fit_together(learner, states[i : i + 1], samples[i : i + 1], plan, [i], group=4)
        assert alone.tobytes() == every[i].tobytes()


def test_inputs_are_left_alone():
    learner, (samples,) = TorchLearner("mlp", (8, 8, 1), LABELS), parts(1)
    state = learner.init(0)
    before = state.copy()
    fit_together(learner, [state], [samples], PLANS[0], [0], group=2)
    assert state.tobytes() == before.tobytes()


def test_shapes_that_differ_are_refused():
    learner, (one, other) = TorchLearner("linear", (8, 8, 1), LABELS), [parts(1, 50)[0], parts(1, 60)[0]]
    state = learner.init(0)
    with pytest.raises(ConfigError, match="takes 1 to 4 learners with as many samples each"):
        fit_together(learner, [state, state], [one, other], PLANS[0], [0, 1], group=4)


def test_networks_that_keep_or_drop_something_are_not_stacked():
    keeps = TorchLearner("tests.learning.test_torch_batch:with_running_statistics", (8, 8, 1), LABELS)
    drops = TorchLearner("tests.learning.test_torch_batch:with_dropout", (8, 8, 1), LABELS)
    assert "running statistics" in why_not(keeps)
    assert "at random" in why_not(drops)
    with pytest.raises(ConfigError, match="cannot be trained in a stack"):
        fit_together(drops, [drops.init(0)], parts(1), PLANS[0], [0], group=2)


@NO_GPU
@pytest.mark.parametrize("name", ["lenet", "cnn"])
def test_a_stack_on_a_gpu_is_the_engine_there_within_rounding(name):
    _, together, alone = stacked(name, PLANS[0], device="cuda", group=32)
    for one, other in zip(together, alone, strict=True):
        assert np.abs(one - other).max() < 1e-4


def with_running_statistics(classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(64), torch.nn.Linear(64, classes))


def with_dropout(classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(64, classes))
