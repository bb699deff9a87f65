import numpy as np
import pytest

from kuberml.core.jobs import check_job, load_job
from kuberml.learning import jobs
from kuberml.learning.predictor import Network
from kuberml.learning.torch_learner import TorchLearner
from kuberml.learning.types import DataRef, FitPlan

LABELS = tuple("0123456789")
LEARNER = TorchLearner("linear", (8, 8, 1), LABELS)


def some(count=100, split="train"):
    return DataRef("digits", split, np.arange(count, dtype=np.int32))


def test_a_learner_lives_by_jobs():
    state = jobs.init_state(LEARNER, 0)
    fitted = jobs.fit(LEARNER, state, some(800), FitPlan(lr=0.5, epochs=5), 1)
    scores = jobs.score(Network(LEARNER, fitted), some(300, "test"))
    assert scores.accuracy > 0.85
    answers_NC = jobs.predict(Network(LEARNER, fitted), some(300, "test"))
    assert answers_NC.shape == (300, 10)


@pytest.mark.parametrize("name", ["init_state", "fit", "score", "predict"])
def test_workers_find_jobs_by_name(name):
    function = check_job(getattr(jobs, name))
    assert load_job(function.job_name) is function


def test_costs_are_known_before_the_work():
    state, forward = LEARNER.init(0), 2 * 64 * 10
    assert jobs.init_state.flops(LEARNER, 0) == 0
    assert jobs.fit.flops(LEARNER, state, some(100), FitPlan(lr=0.1, epochs=3), 0) == 3 * forward * 300
    assert jobs.fit.flops(LEARNER, state, some(100), FitPlan(lr=0.1, steps=2), 0) == 3 * forward * 64
    assert jobs.score.flops(Network(LEARNER, state), some(100)) == forward * 100
