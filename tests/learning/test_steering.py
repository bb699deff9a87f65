"""A steered fit against the same steps in numpy, and against autograd on a loss that has the terms written out."""

import numpy as np
import pytest
import torch

from kuberml.core import values
from kuberml.core.errors import ConfigError
from kuberml.learning.batching import batches, step_count
from kuberml.learning.datasets import DATASETS
from kuberml.learning.extractors import identity
from kuberml.learning.head_learner import HeadLearner, _batches
from kuberml.learning.jobs import fit, fit_steered
from kuberml.learning.models import build
from kuberml.learning.sklearn_learner import SklearnLearner
from kuberml.learning.steering import Steering, steerable
from kuberml.learning.torch_learner import TorchLearner
from kuberml.learning.types import FitPlan, Samples

LABELS = tuple("0123456789")
LINEAR = TorchLearner("linear", (8, 8, 1), LABELS)
HEAD = HeadLearner(identity(64), LABELS, 64, (8, 8, 1))
PLANS = [FitPlan(lr=0.2, steps=7), FitPlan(lr=0.05, epochs=2, momentum=0.9, weight_decay=1e-2)]
P = 650


@pytest.fixture(scope="module")
def small():
    train = DATASETS.get("digits").split("train")
    return Samples(train.x_N[:150], train.y_N[:150], train.labels)


def steerings():
    draw = np.random.default_rng(5)
    anchor_P, shift_P = (0.1 * draw.standard_normal((2, P))).astype(np.float32)
    mask_P = draw.random(P) < 0.6
    return [
        Steering(proximal=0.7),
        Steering(proximal=0.7, anchor_P=anchor_P),
        Steering(shift_P=shift_P),
        Steering(mask_P=mask_P),
        Steering(proximal=0.3, anchor_P=anchor_P, shift_P=shift_P, mask_P=mask_P),
    ]


def steered_in_numpy(gradient, start_P, steering, plan, order):
    """mask (g + decay w + proximal (w - anchor) + shift), then momentum, then the step; in float64."""
    w_P, velocity_P = start_P.astype(np.float64), np.zeros(len(start_P))
    anchor_P = start_P if steering.anchor_P is None else steering.anchor_P
    for batch in order:
        change_P = gradient(w_P, batch) + plan.weight_decay * w_P + steering.proximal * (w_P - anchor_P)
        change_P = change_P + (0 if steering.shift_P is None else steering.shift_P)
        change_P = change_P * (1 if steering.mask_P is None else steering.mask_P)
        velocity_P = plan.momentum * velocity_P + change_P
        w_P = w_P - plan.lr * velocity_P
    return w_P


def softmax_gradient(z_Nd, y_N, w_dC):
    e_NC = np.exp(z_Nd @ w_dC - (z_Nd @ w_dC).max(axis=1, keepdims=True))
    return z_Nd.T @ (e_NC / e_NC.sum(axis=1, keepdims=True) - np.eye(10)[y_N]) / len(y_N)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("steering", steerings())
def test_a_steered_network_makes_the_steps_of_the_equation(plan, steering, small):
    x_Nd = small.x_N.reshape(len(small), -1).astype(np.float64)

    def gradient(w_P, batch):  # the state of "linear" is W [C, d], then b [C]
        w_dC = np.concatenate([w_P[640:][None], w_P[:640].reshape(10, 64).T])
        z_Nd = np.concatenate([np.ones((len(batch), 1)), x_Nd[batch]], axis=1)
        g_dC = softmax_gradient(z_Nd, small.y_N[batch], w_dC)
        return np.concatenate([g_dC[1:].T.ravel(), g_dC[0]])

    start_P, stream = LINEAR.init(1), batches(len(small), plan.batch, 3, "batches")
    order = [next(stream) for _ in range(step_count(plan, len(small)))]
    expected_P = steered_in_numpy(gradient, start_P, steering, plan, order)
    found_P = LINEAR.fit(start_P, small, plan, 3, steering=steering)
    np.testing.assert_allclose(found_P, expected_P, atol=3e-6)
    assert np.abs(found_P - LINEAR.fit(start_P, small, plan, 3)).max() > 1e-3


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("steering", steerings())
def test_a_steered_head_makes_them_too(plan, steering, small):
    z_Nd = np.concatenate([np.ones((len(small), 1)), small.x_N.reshape(len(small), -1)], axis=1)

    def gradient(w_P, batch):
        return softmax_gradient(z_Nd[batch], small.y_N[batch], w_P.reshape(65, 10)).ravel()

    start_P = np.random.default_rng(2).normal(0, 0.1, P).astype(np.float32)
    expected_P = steered_in_numpy(gradient, start_P, steering, plan, _batches(len(small), plan, 3))
    np.testing.assert_allclose(HEAD.fit(start_P, small, plan, 3, steering=steering), expected_P, atol=5e-6)


def test_a_deep_network_goes_down_the_written_out_loss(small):
    """loss + proximal / 2 |w - anchor|^2 + <shift, w>, differentiated by autograd and stepped by torch.optim."""
    learner, plan = TorchLearner("lenet", (8, 8, 1), LABELS), FitPlan(lr=0.05, steps=6, momentum=0.9, weight_decay=1e-3)
    start_P = learner.init(0)
    anchor_P, shift_P = (0.05 * np.random.default_rng(0).standard_normal((2, len(start_P)))).astype(np.float32)
    module = build(learner.architecture, learner.shape, 10)
    module.load_state_dict({name: torch.tensor(part) for name, part in learner.tensors(start_P).items()})
    optimizer = torch.optim.SGD(module.parameters(), plan.lr, plan.momentum, weight_decay=plan.weight_decay)
    order = batches(len(small), plan.batch, 7, "batches")
    for _ in range(plan.steps):
        index = next(order)
        optimizer.zero_grad()
        x = torch.tensor(small.x_N[index]).permute(0, 3, 1, 2)
        w = torch.cat([part.reshape(-1) for part in module.parameters()])
        pull = 0.4 / 2 * (w - torch.tensor(anchor_P)).square().sum() + (torch.tensor(shift_P) * w).sum()
        (torch.nn.functional.cross_entropy(module(x), torch.tensor(small.y_N[index])) + pull).backward()
        optimizer.step()
    expected_P = np.concatenate([part.detach().numpy().reshape(-1) for part in module.parameters()])
    found_P = learner.fit(start_P, small, plan, 7, steering=Steering(0.4, anchor_P, shift_P))
    np.testing.assert_allclose(found_P, expected_P, atol=1e-5)


def test_what_the_mask_leaves_out_does_not_move_and_the_rest_does(small):
    learner = TorchLearner("mlp", (8, 8, 1), LABELS, {"hidden": [32]})
    start_P = learner.init(0)
    mask_P = np.arange(len(start_P)) % 3 > 0
    plan = FitPlan(lr=0.1, epochs=2, momentum=0.9, weight_decay=0.1)
    found_P = learner.fit(start_P, small, plan, 1, steering=Steering(proximal=1.0, shift_P=start_P, mask_P=mask_P))
    assert np.array_equal(found_P[~mask_P], start_P[~mask_P])
    assert (found_P[mask_P] != start_P[mask_P]).mean() > 0.9


class Shared(torch.nn.Module):
    """Two parameters that autograd gives one gradient tensor, and running statistics, which nobody pulls."""

    def __init__(self, classes):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(64, affine=False)
        self.line = torch.nn.Linear(64, classes, bias=False)
        self.one, self.two = (torch.nn.Parameter(torch.zeros(classes)) for _ in range(2))

    def forward(self, x):
        return self.line(self.norm(x.flatten(1))) + (self.one + self.two)


def test_shared_gradients_are_pulled_once_and_statistics_not_at_all(small):
    learner = TorchLearner(f"{__name__}:Shared", (8, 8, 1), LABELS)
    start_P, plan = learner.init(0), FitPlan(lr=0.1, steps=1, batch=len(small))
    shift_P = np.ones(len(start_P), np.float32)
    free = learner.tensors(learner.fit(start_P, small, plan, 0))
    pulled = learner.tensors(learner.fit(start_P, small, plan, 0, steering=Steering(shift_P=shift_P)))
    for name in ("line.weight", "one", "two"):
        np.testing.assert_allclose(pulled[name], free[name] - 0.1, atol=1e-6)
    for name in ("norm.running_mean", "norm.running_var", "norm.num_batches_tracked"):
        assert np.array_equal(pulled[name], free[name])


@pytest.mark.parametrize("learner", [LINEAR, HEAD], ids=["torch", "head"])
def test_a_pull_of_nothing_changes_no_bit_and_jobs_cost_the_same(learner):
    data, plan = DATASETS.get("digits").ref("public"), FitPlan(lr=0.1, epochs=1)
    start_P = learner.init(0)
    plain_P, nothing = fit(learner, start_P, data, plan, 4), Steering()
    assert np.array_equal(fit_steered(learner, start_P, data, plan, 4, nothing), plain_P)
    zeros = Steering(0.0, start_P, np.zeros(P, np.float32), np.ones(P, bool))
    assert np.array_equal(fit_steered(learner, start_P, data, plan, 4, values.frozen(zeros)), plain_P)
    assert fit_steered.flops(learner, start_P, data, plan, 4, nothing) == fit.flops(learner, start_P, data, plan, 4)


@pytest.mark.parametrize(
    ("steering", "why"),
    [
        (Steering(proximal=-1.0), "proximal must be 0 or more"),
        (Steering(proximal=float("nan")), "proximal must be 0 or more"),
        (Steering(shift_P=np.zeros(9, np.float32)), r"shift_P must be float32 \[650\]"),
        (Steering(anchor_P=np.zeros(P)), "anchor_P must be float32"),
        (Steering(mask_P=np.ones(P, np.float32)), "mask_P must be bool"),
    ],
)
@pytest.mark.parametrize("learner", [LINEAR, HEAD], ids=["torch", "head"])
def test_what_cannot_be_is_named(learner, steering, why, small):
    with pytest.raises(ConfigError, match=why):
        learner.fit(learner.init(0), small, FitPlan(lr=0.1), 0, steering=steering)


def test_a_learner_without_gradients_says_so():
    tree = SklearnLearner("sklearn.tree:DecisionTreeClassifier", (8, 8, 1), LABELS)
    with pytest.raises(ConfigError, match="SklearnLearner cannot be steered"):
        steerable(tree)
    assert steerable(LINEAR) is LINEAR
