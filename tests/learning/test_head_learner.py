import numpy as np

from kuberml.learning.datasets import DATASETS, samples
from kuberml.learning.evaluation import score
from kuberml.learning.extractors import built, features, make_extractor
from kuberml.learning.head_learner import HeadLearner
from kuberml.learning.jobs import training_flops
from kuberml.learning.predictor import Network
from kuberml.learning.types import FitPlan

DIGITS = DATASETS.get("digits")
EXTRACTOR = make_extractor("patch-filters", DIGITS.split("public").x_N, 0, patch=3, filters=8, grid=2)
HEAD = HeadLearner(EXTRACTOR, DIGITS.labels, built(EXTRACTOR).dimensions, DIGITS.shape)


def test_one_full_batch_step_is_the_gradient_by_hand() -> None:
    part = samples(DIGITS.ref("public"))
    z_Nd = np.concatenate([np.ones((len(part), 1), np.float32), features(EXTRACTOR, part.x_N)], axis=1)
    error_NC = 0.1 - np.eye(10)[part.y_N]  # softmax of zeros less one-hot
    by_hand = -0.5 * z_Nd.T @ error_NC / len(part)
    state = HEAD.fit(HEAD.init(0), part, FitPlan(lr=0.5, epochs=1, batch=len(part)), 0)
    np.testing.assert_allclose(state.reshape(by_hand.shape), by_hand, atol=1e-4)


def test_it_learns_digits_and_repeats() -> None:
    train, test = DIGITS.split("train"), DIGITS.split("test")
    plan = FitPlan(lr=0.1, epochs=5)
    state = HEAD.fit(HEAD.init(0), train, plan, 3)
    assert score(Network(HEAD, state), test).accuracy > 0.9
    assert np.array_equal(state, HEAD.fit(HEAD.init(0), train, plan, 3))
    assert not np.array_equal(state, HEAD.fit(HEAD.init(0), train, plan, 4))


def test_the_frozen_extractor_is_paid_once_a_fit() -> None:
    data = DIGITS.ref("public")
    one, ten = (training_flops(HEAD, FitPlan(lr=0.1, epochs=epochs), len(data)) for epochs in (1, 10))
    head_only = HEAD.flops_per_sample - HEAD.frozen_flops_per_sample
    assert one == HEAD.frozen_flops_per_sample * len(data) + 3 * head_only * len(data)
    assert ten - one == 9 * 3 * head_only * len(data)
