import msgspec
import numpy as np
import pytest

from kuberml.core import values
from kuberml.core.errors import ConfigError
from kuberml.learning.datasets import DATASETS
from kuberml.learning.distillation import GRID, Answers, Setting, ask, distil, sharpness
from kuberml.learning.evaluation import score
from kuberml.learning.predictor import Network
from kuberml.learning.torch_learner import TorchLearner
from kuberml.learning.types import FitPlan, Samples

LABELS = tuple("0123456789")
LEARNER = TorchLearner("mlp", (8, 8, 1), LABELS, {"hidden": [32]})
PLAN = FitPlan(lr=0.05, epochs=15, batch=16, momentum=0.9)


@values.value
class Table(msgspec.Struct, frozen=True):
    """Answers for samples whose only input is their row in a table of probabilities."""

    labels: tuple[str, ...]
    probs_NC: np.ndarray
    power: float = 1.0
    flops_per_sample: int = 1

    def predict(self, x_N):
        return np.float32(self.power) * np.log(self.probs_NC[x_N[:, 0].astype(int)])


@values.value
class Plain(msgspec.Struct, frozen=True):
    """A learner that has no last layer to refine."""

    inner: TorchLearner
    labels = LABELS

    def fit(self, state, samples, plan, seed, *, soft=None):
        return self.inner.fit(state, samples, plan, seed, soft=soft)

    def predict(self, state, x_N):
        return self.inner.predict(state, x_N)


@pytest.fixture(scope="module")
def parts():
    digits = DATASETS.get("digits")
    train, public = digits.split("train"), digits.split("public")
    mine = np.flatnonzero(train.y_N < 3)
    return part(train, mine[:90]), part(train, mine[90:150]), public, digits.split("test")


@pytest.fixture(scope="module")
def alone(parts):
    return LEARNER.fit(LEARNER.init(0), parts[0], PLAN, 0)


@pytest.fixture(scope="module")
def teacher(parts):
    """Another architecture that knows all labels."""
    learner = TorchLearner("linear", (8, 8, 1), LABELS)
    train = DATASETS.get("digits").split("train")
    return Network(learner, learner.fit(learner.init(0), train, FitPlan(lr=0.5, epochs=10), 0))


def part(samples, index):
    return Samples(samples.x_N[index], samples.y_N[index], samples.labels)


def test_a_student_learns_from_another_architecture_and_keeps_its_own(parts, alone, teacher):
    train, heldout, public, test = parts
    answers = ask(teacher, public.x_N, LABELS, own=train)
    result = distil(LEARNER, alone, train, heldout, answers, plan=PLAN, seed=1)
    before, after = (score(Network(LEARNER, state), test) for state in (alone, result.state))
    assert result.kept
    assert before.accuracy < 0.35
    assert after.accuracy > 0.8
    assert result.own_after >= result.own_before - 0.1
    assert len(result.merits) == len(GRID)
    assert values.loads(values.dumps(result)).setting == result.setting


def test_it_is_deterministic_and_depends_on_the_seed(parts, alone, teacher):
    train, heldout, public, _ = parts
    answers = ask(teacher, public.x_N, LABELS, own=train)
    plan = FitPlan(lr=0.05, steps=20)
    one, two, other = (distil(LEARNER, alone, train, heldout, answers, plan=plan, seed=s, tolerance=1.0) for s in (3, 3, 4))
    assert values.digest(one) == values.digest(two)
    assert values.digest(one.state) != values.digest(other.state)


def test_a_setting_that_does_not_listen_is_not_chosen(parts, alone, teacher):
    train, heldout, public, _ = parts
    answers = ask(teacher, public.x_N, LABELS, own=train)
    grid = (Setting(1.0, 0.0), Setting(1.0, 0.5))
    result = distil(LEARNER, alone, train, heldout, answers, plan=PLAN, seed=1, grid=grid)
    assert result.setting == grid[1]
    assert result.merits[1] > result.merits[0] + 0.3


def test_a_student_that_would_forget_stays_as_it_was(parts, alone):
    """Teachers that call every sample a 9."""
    train, heldout, _, _ = parts
    wrong_NC = np.tile(np.eye(10, dtype=np.float32)[9], (len(heldout), 1))
    answers = Answers(heldout.x_N, wrong_NC, np.ones(wrong_NC.shape, bool))
    result = distil(LEARNER, alone, train, heldout, answers, plan=PLAN, seed=0, grid=(Setting(1.0, 1.0),))
    assert not result.kept
    assert np.array_equal(result.state, alone)
    assert result.own_after < result.own_before - 0.1


def test_without_held_out_samples_teachers_are_the_only_judges(parts, alone, teacher):
    train, _, public, _ = parts
    nobody = part(train, slice(0, 0))
    answers = ask(teacher, public.x_N, LABELS)
    result = distil(LEARNER, alone, train, nobody, answers, plan=FitPlan(lr=0.05, steps=30), seed=0, grid=GRID[1:2])
    assert result.kept
    assert np.isnan(result.own_before)
    assert 0 < result.merits[0] <= 1


def test_answers_of_nobody_leave_training_on_ones_own(parts, alone):
    train, heldout, public, _ = parts
    silent = Answers(public.x_N, np.zeros((200, 10), np.float32), np.zeros((200, 10), bool))
    grid = (Setting(1.0, 0.5),)
    result = distil(LEARNER, alone, train, heldout, silent, plan=PLAN, seed=0, grid=grid)
    assert result.own_after >= result.own_before - 0.1


def test_refining_is_skipped_by_learners_without_a_last_layer(parts, alone, teacher):
    train, heldout, public, _ = parts
    answers, plan = ask(teacher, public.x_N, LABELS), FitPlan(lr=0.05, steps=10)
    plain, both = Plain(LEARNER), (Setting(1.0, 0.5), Setting(1.0, 0.5, refine=True))
    merits = distil(plain, alone, train, heldout, answers, plan=plan, seed=0, grid=both).merits
    assert merits[0] == merits[1]


def test_softening_keeps_the_mask_and_the_order():
    mask_NC = np.array([[True, True, True, False]])
    answers = Answers(np.zeros((1, 1), np.float32), np.float32([[0.7, 0.2, 0.1, 0]]), mask_NC)
    soft = answers.at(2.0, 0.5)
    expected = np.sqrt([0.7, 0.2, 0.1])
    assert np.allclose(soft.probs_NC[0, :3], expected / expected.sum())
    assert soft.probs_NC[0, 3] == 0
    assert (soft.temperature, soft.alpha) == (2.0, 0.5)
    silent = Answers(answers.x_N, np.zeros((1, 4), np.float32), np.zeros((1, 4), bool))
    assert not silent.at(3.0, 0.5).probs_NC.any()


def test_a_teacher_is_asked_about_shared_labels_only():
    teacher = Table(("z", "b", "a"), np.float32([[0.5, 0.1, 0.4]]))
    answers = ask(teacher, np.zeros((1, 1), np.float32), ("a", "b", "c"))
    assert np.allclose(answers.probs_NC, [[0.8, 0.2, 0]])
    assert answers.mask_NC.tolist() == [[True, True, False]]
    stranger = ask(teacher, np.zeros((1, 1), np.float32), ("x", "y"))
    assert not stranger.mask_NC.any()


@pytest.mark.parametrize("power", [0.125, 1.0, 8.0])
def test_calibration_undoes_too_much_and_too_little_confidence(power):
    """A teacher that is right as often as it says needs a factor of 1; one whose log-probabilities are scaled, the inverse."""
    generator = np.random.default_rng(0)
    probs_NC = generator.dirichlet((0.5, 0.5, 0.5), 4000) * 0.98 + 0.02 / 3
    y_N = (generator.random((4000, 1)) > probs_NC.cumsum(1)).sum(1)
    own = Samples(np.arange(4000, dtype=np.float32)[:, None], y_N, ("a", "b", "c"))
    assert sharpness(Table(("a", "b", "c"), probs_NC, power), own) == 1 / power


def test_too_little_evidence_does_not_calibrate():
    own = Samples(np.zeros((9, 1), np.float32), np.zeros(9, np.int64), ("a", "b"))
    assert sharpness(Table(("a", "b"), np.float32([[0.9, 0.1]])), own) == 1
    many = Samples(np.zeros((99, 1), np.float32), np.zeros(99, np.int64), ("a", "b"))
    assert sharpness(Table(("a", "z"), np.float32([[0.9, 0.1]])), many) == 1


@pytest.mark.parametrize("grid", [(), GRID])
def test_what_does_not_fit_is_refused(grid, parts, alone):
    train, heldout, public, _ = parts
    answers = Answers(public.x_N, np.zeros((200, 9 + (not grid)), np.float32), np.zeros((200, 10), bool))
    with pytest.raises(ConfigError, match="distil"):
        distil(LEARNER, alone, train, heldout, answers, plan=PLAN, seed=0, grid=grid)
