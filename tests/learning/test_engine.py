"""The engine against a plain PyTorch loop: other machinery, the same numbers."""

import multiprocessing

import numpy as np
import pytest
import torch

from kuberml.core.values import digest
from kuberml.learning import torch_engine
from kuberml.learning.batching import batches, step_count
from kuberml.learning.datasets import DATASETS
from kuberml.learning.learner import SoftTargets
from kuberml.learning.models import build
from kuberml.learning.torch_learner import TorchLearner
from kuberml.learning.types import FitPlan, Samples

LABELS = tuple("0123456789")


@pytest.fixture(scope="module")
def small():
    train = DATASETS.get("digits").split("train")
    return Samples(train.x_N[:150], train.y_N[:150], train.labels)


def naive(learner, state, samples, plan, seed):
    """What everybody writes: a module, an optimizer, backward, step."""
    torch.manual_seed(0)
    module = build(learner.architecture, learner.shape, len(learner.labels), learner.options)
    module.load_state_dict({name: torch.tensor(part) for name, part in learner.tensors(state).items()})
    optimizer = torch.optim.SGD(module.parameters(), plan.lr, plan.momentum, weight_decay=plan.weight_decay)
    x, y = torch.tensor(samples.x_N).permute(0, 3, 1, 2), torch.tensor(samples.y_N)
    order = batches(len(y), plan.batch, seed, "batches")
    for _ in range(step_count(plan, len(y))):
        index = torch.tensor(next(order))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(x[index]), y[index]).backward()
        optimizer.step()
    return np.concatenate([part.detach().numpy().reshape(-1) for part in module.state_dict().values()])


@pytest.mark.parametrize("name", ["mlp", "lenet", "resnet8"])
@pytest.mark.parametrize("plan", [FitPlan(lr=0.1, epochs=2), FitPlan(lr=0.05, steps=9, momentum=0.9, weight_decay=1e-3)])
def test_it_is_torch_optim_sgd(name, plan, small):
    learner = TorchLearner(name, (8, 8, 1), LABELS)
    state = learner.init(0)
    ours, theirs = learner.fit(state, small, plan, 7), naive(learner, state, small, plan, 7)
    assert np.abs(ours - state).max() > 1e-3
    assert np.abs(ours - theirs).max() < 1e-5


def test_soft_loss_is_masked_kl_by_hand(small):
    """One step on one sample with a linear model: the gradient is T * alpha * (softmax over the mask - teacher) x."""
    learner = TorchLearner("linear", (8, 8, 1), LABELS)
    state, x = learner.init(0), small.x_N[:1]
    mask = np.zeros((1, 10), bool)
    mask[0, [2, 5, 7]] = True
    probs = np.zeros((1, 10), np.float32)
    probs[0, [2, 5, 7]] = 0.7, 0.2, 0.1
    temperature, alpha, lr = 3.0, 0.4, 0.5
    before = learner.tensors(state)
    logits = before["1.weight"] @ x.reshape(-1) + before["1.bias"]
    soft_C = np.where(mask[0], np.exp(logits / temperature), 0)
    gradient_C = alpha * temperature * (soft_C / soft_C.sum() - probs[0])
    nobody = Samples(small.x_N[:0], small.y_N[:0], LABELS)
    taught = learner.fit(state, nobody, FitPlan(lr=lr, steps=1), 0, soft=SoftTargets(x, probs, mask, temperature, alpha))
    after = learner.tensors(taught)
    assert np.allclose(after["1.bias"], before["1.bias"] - lr * gradient_C, atol=1e-6)
    assert np.allclose(after["1.weight"], before["1.weight"] - lr * np.outer(gradient_C, x.reshape(-1)), atol=1e-6)


def fitted_digest(learner):
    samples = DATASETS.get("digits").split("train")
    return digest(learner.fit(learner.init(3), samples, FitPlan(lr=0.1, steps=20, momentum=0.5), 3))


@pytest.mark.slow
def test_other_processes_get_the_same_bits():
    learners = [TorchLearner(name, (8, 8, 1), LABELS) for name in ("lenet", "resnet8")]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(fitted_digest, learners) == [fitted_digest(learner) for learner in learners]


def test_it_works_under_deterministic_algorithms(small):
    learners = [TorchLearner(name, (8, 8, 1), LABELS) for name in ("cnn", "resnet8")]
    plan = FitPlan(lr=0.1, steps=3)
    free = [learner.fit(learner.init(0), small, plan, 0) for learner in learners]
    torch.use_deterministic_algorithms(True)
    try:
        bound = [learner.fit(learner.init(0), small, plan, 0) for learner in learners]
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(np.array_equal(one, two) for one, two in zip(free, bound, strict=True))


def test_images_are_channels_last_without_a_copy(small):
    learner = TorchLearner("cnn", (8, 8, 1), LABELS)
    learner.init(0)
    x = torch_engine.Scratch.inputs(learner._scratch(), np.zeros((4, 8, 8, 3), np.float32))
    assert x.shape == (4, 3, 8, 8)
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_plain_layers_are_counted_as_torchs_own_counter_counts(small):
    from torch.utils.flop_counter import FlopCounterMode

    module = build("resnet8", (8, 8, 1), 10)
    with FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, 1, 8, 8))
    assert TorchLearner("resnet8", (8, 8, 1), LABELS).flops_per_sample == counter.get_total_flops()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_cuda_repeats_itself_and_is_close_to_the_cpu(small):
    plan = FitPlan(lr=0.05, steps=10)
    here = TorchLearner("lenet", (8, 8, 1), LABELS)
    there = TorchLearner("lenet", (8, 8, 1), LABELS, device="cuda")
    state = there.init(0)
    assert np.array_equal(state, here.init(0))
    fitted = there.fit(state, small, plan, 0)
    assert np.array_equal(fitted, there.fit(state, small, plan, 0))
    assert np.abs(fitted - here.fit(state, small, plan, 0)).max() < 1e-3
    assert np.abs(there.predict(fitted, small.x_N) - here.predict(fitted, small.x_N)).max() < 1e-3
