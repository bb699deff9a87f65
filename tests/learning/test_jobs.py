import numpy as np
import pytest

from kuberml.core import values
from kuberml.core.jobs import check_job, load_job
from kuberml.knowledge.kinds.extractor import basis_of
from kuberml.knowledge.kinds.probe import probe_from, probe_of
from kuberml.knowledge.kinds.statistics import merge
from kuberml.learning import jobs
from kuberml.learning.datasets import samples
from kuberml.learning.distillation import Setting
from kuberml.learning.extractors import built, identity, random_convolutions
from kuberml.learning.predictor import HeadOn, Network
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


@pytest.mark.parametrize(
    "name", ["init_state", "fit", "score", "predict", "describe_own", "solve_head", "soft_labels", "distil"]
)
def test_workers_find_jobs_by_name(name):
    function = check_job(getattr(jobs, name))
    assert load_job(function.job_name) is function


def test_costs_are_known_before_the_work():
    state, forward = LEARNER.init(0), 2 * 64 * 10
    assert jobs.init_state.flops(LEARNER, 0) == 0
    assert jobs.fit.flops(LEARNER, state, some(100), FitPlan(lr=0.1, epochs=3), 0) == 3 * forward * 300
    assert jobs.fit.flops(LEARNER, state, some(100), FitPlan(lr=0.1, steps=2), 0) == 3 * forward * 64
    assert jobs.score.flops(Network(LEARNER, state), some(100)) == forward * 100


PLAIN = identity(64)


def public_probe():
    return probe_from(samples(some(200, "public")).x_N, levels=16)


def test_statistics_of_two_become_one_head():
    halves = [DataRef("digits", "train", np.arange(k, 1000, 2, dtype=np.int32)) for k in range(2)]
    described = [jobs.describe_own(PLAIN, half) for half in halves]
    head = jobs.solve_head(merge(described[0][0], described[1][0]))
    together, _, withheld = jobs.describe_own(PLAIN, some(1000))
    assert withheld == {}
    assert together.basis == basis_of(PLAIN)
    assert np.abs(head.weights_dC - jobs.solve_head(together).weights_dC).max() < 1e-9
    predictor = values.loads(values.dumps(HeadOn(PLAIN, head, (8, 8, 1))))
    assert jobs.score(predictor, some(300, "test")).accuracy > 0.9
    assert predictor.labels == LABELS
    assert predictor.flops_per_sample == 2 * 65 * 10
    assert predictor.predict(np.zeros((0, 8, 8, 1), np.float32)).shape == (0, 10)


def test_small_classes_are_withheld():
    shared, private, withheld = jobs.describe_own(PLAIN, some(30), 4)
    assert private.counts == withheld
    assert private.samples + shared.samples == 30
    assert all(count < 4 for count in withheld.values())


def test_statistics_cost_features_and_a_gram_matrix():
    assert jobs.describe_own.flops(PLAIN, some(100)) == 100 * 2 * 65 * 65
    filters = random_convolutions(filters=8)
    function = built(filters)
    expected = 10 * (function.flops((8, 8, 1)) + 2 * (1 + function.dimensions) ** 2)
    assert jobs.describe_own.flops(filters, some(10)) == expected
    statistics, _, _ = jobs.describe_own(PLAIN, some(1000))
    assert jobs.solve_head.flops(statistics, 1.0) == 2 * 65**3 // 3 + 2 * 65**2 * 10
    assert jobs.solve_head.flops(statistics) == jobs.solve_head.flops(statistics, 1.0) + 9 * 65**3


def test_a_network_learns_what_it_lacks_from_a_head():
    train = samples(some(1000)).y_N
    own, held = (np.flatnonzero(train < 3)[part].astype(np.int32) for part in (slice(90), slice(90, 140)))
    mine, heldout = DataRef("digits", "train", own), DataRef("digits", "train", held)
    student, plan = TorchLearner("lenet", (8, 8, 1), LABELS), FitPlan(lr=0.05, epochs=20, batch=16, momentum=0.9)
    state = jobs.fit(student, jobs.init_state(student, 0), mine, plan, 0)
    teacher = HeadOn(PLAIN, jobs.solve_head(jobs.describe_own(PLAIN, some(1000))[0]), (8, 8, 1))
    probe, grid = public_probe(), (Setting(1.0, 0.6, anew=True),)
    soft = jobs.soft_labels(teacher, probe, dict.fromkeys(LABELS, 9))
    assert soft.probe == probe_of(probe)
    taught = jobs.distil(student, state, mine, heldout, teacher, probe, plan, 1, grid)
    alone, by_head = (jobs.score(Network(student, s), some(500, "test")).accuracy for s in (state, taught))
    assert alone < 0.35
    assert by_head > 0.75


def test_a_distillation_costs_its_candidates_and_its_last_fit():
    mine, heldout, probe, plan = some(64), some(10, "test"), public_probe(), FitPlan(lr=0.1, steps=1)
    forward, teacher = LEARNER.flops_per_sample, Network(LEARNER, LEARNER.init(0))
    arguments = (LEARNER, teacher.state, mine, heldout, teacher, probe, plan, 0)
    candidate = 3 * forward * (32 + 32) + forward * (10 + 40)  # a fifth of 200 answers is held out
    last = 3 * forward * (32 + 32) + 2 * forward * 10
    asked = forward * (64 + 200)
    assert jobs.distil.flops(*arguments, (Setting(1.0, 0.5),)) == asked + candidate + last
    assert jobs.distil.flops(*arguments, (Setting(1.0, 0.5),) * 3) == asked + 3 * candidate + last
    refined = jobs.distil.flops(*arguments, (Setting(1.0, 0.5, refine=True),))
    assert refined == asked + candidate + last + 2 * 3 * forward * (32 + 32)
