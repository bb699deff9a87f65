import numpy as np
import pytest
import torch

from kuberml.core import values
from kuberml.core.errors import ConfigError, RemoteError
from kuberml.learning.datasets import DATASETS
from kuberml.learning.learner import SoftTargets
from kuberml.learning.torch_learner import TorchLearner
from kuberml.learning.types import DataRef, FitPlan, Samples

LABELS = tuple("0123456789")
PLAN = FitPlan(lr=0.1, epochs=2)


@pytest.fixture(scope="module")
def train():
    return DATASETS.get("digits").split("train")


@pytest.fixture(scope="module")
def small(train):
    return Samples(train.x_N[:200], train.y_N[:200], train.labels)


def learners():
    return [
        TorchLearner("linear", (8, 8, 1), LABELS),
        TorchLearner("mlp", (8, 8, 1), LABELS, {"hidden": [32]}),
        TorchLearner("lenet", (8, 8, 1), LABELS),
        TorchLearner("cnn", (8, 8, 1), LABELS, {"channels": [4, 8]}),
        TorchLearner("resnet8", (8, 8, 1), LABELS, {"width": 4}),
        TorchLearner(f"{__name__}:Own", (8, 8, 1), LABELS),
    ]


class Own(torch.nn.Module):
    """Somebody's own: batch normalisation with its counter, dropout, a frozen parameter, weights of its own making."""

    def __init__(self, classes):
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(1)
        self.scale = torch.nn.Parameter(torch.ones(1), requires_grad=False)
        self.drop = torch.nn.Dropout(0.5)
        self.head = torch.nn.Linear(64, classes)
        torch.nn.init.orthogonal_(self.head.weight)

    def forward(self, x):
        return self.head(self.drop(self.norm(x).flatten(1) * self.scale))


class Wrong(torch.nn.Module):
    def forward(self, x):
        return x.flatten(1)


class Doubles(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(64, 10, dtype=torch.float64)


def name_of(learner):
    return learner.architecture.rpartition(":")[2]


@pytest.mark.parametrize("learner", learners(), ids=name_of)
def test_the_same_seed_gives_the_same_bits_and_another_does_not(learner, small):
    state = learner.init(1)
    assert state.dtype == np.float32
    assert state.shape == (learner.size,)
    assert np.array_equal(state, learner.init(1))
    assert not np.array_equal(state, learner.init(2))
    before = state.copy()
    fitted = learner.fit(state, small, PLAN, 3)
    torch.rand(5)  # somebody else's draw
    torch.set_num_threads(2)
    assert np.array_equal(fitted, learner.fit(values.frozen(state), small, PLAN, 3))
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert not np.array_equal(fitted, learner.fit(state, small, PLAN, 4))
    assert np.array_equal(state, before)


@pytest.mark.parametrize("learner", learners(), ids=name_of)
def test_learners_share_a_scratch_module_without_touching_each_other(learner, small):
    one, two = learner.init(1), learner.init(2)
    together = learner.fit(one, small, PLAN, 5), learner.fit(two, small, PLAN, 6)
    assert np.array_equal(learner.fit(two, small, PLAN, 6), together[1])
    assert np.array_equal(learner.fit(one, small, PLAN, 5), together[0])


def test_nothing_outside_notices(small):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    learner = TorchLearner(f"{__name__}:Own", (8, 8, 1), LABELS)
    learner.predict(learner.fit(learner.init(1), small, PLAN, 1), small.x_N)
    assert torch.equal(torch.rand(3), expected)


def test_it_learns_digits(train):
    test = DATASETS.get("digits").split("test")
    learner = TorchLearner("lenet", (8, 8, 1), LABELS)
    fitted = learner.fit(learner.init(0), train, FitPlan(lr=0.1, epochs=12, momentum=0.5), 0)
    answers_NC = learner.predict(fitted, test.x_N)
    assert answers_NC.dtype == np.float32
    assert np.allclose(np.exp(answers_NC).sum(1), 1, atol=1e-5)
    assert (answers_NC.argmax(1) == test.y_N).mean() > 0.9


def test_labels_meet_by_name(small):
    wide, narrow = TorchLearner("linear", (8, 8, 1), LABELS), TorchLearner("linear", (8, 8, 1), ("9", "3"))
    some = np.flatnonzero(np.isin(small.y_N, (3, 9)))
    of_two = Samples(small.x_N[some], small.y_N[some], small.labels)
    fitted = narrow.fit(narrow.init(0), of_two, FitPlan(lr=0.5, epochs=20), 0)
    named = np.array(narrow.labels)[narrow.predict(fitted, of_two.x_N).argmax(1)]
    assert (named == of_two.y_N.astype(str)).mean() > 0.95
    with pytest.raises(ConfigError, match=r"labels \['0', '1'.*the learner lacks"):
        narrow.fit(fitted, small, PLAN, 0)
    renamed = Samples(small.x_N, 9 - small.y_N, LABELS[::-1])
    assert np.array_equal(wide.fit(wide.init(0), small, PLAN, 0), wide.fit(wide.init(0), renamed, PLAN, 0))


def test_a_state_becomes_named_tensors_and_back():
    learner = TorchLearner(f"{__name__}:Own", (8, 8, 1), LABELS)
    state = learner.init(0)
    tensors = learner.tensors(state)
    assert tensors["head.weight"].shape == (10, 64)
    assert tensors["norm.num_batches_tracked"].shape == ()
    assert np.array_equal(learner.state_of(tensors), state)


def test_batch_statistics_are_part_of_the_state(small):
    learner = TorchLearner(f"{__name__}:Own", (8, 8, 1), LABELS)
    tensors = learner.tensors(learner.fit(learner.init(0), small, FitPlan(lr=0.1, steps=7), 0))
    assert tensors["norm.num_batches_tracked"] == 7
    assert tensors["norm.running_mean"] != 0
    assert tensors["scale"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("1.bias"), "missing or too many"),
        (lambda t: t.update(extra=t["1.bias"]), "extra"),
        (lambda t: t.update({"1.bias": np.zeros(9, np.float32)}), r"float32 \[10\], not float32 \[9\]"),
        (lambda t: t.update({"1.bias": np.zeros(10)}), "float64"),
        (lambda t: t.update({"1.bias": np.full(10, np.nan, np.float32)}), "not finite"),
    ],
)
def test_weights_from_a_peer_are_checked(change, message):
    learner = TorchLearner("linear", (8, 8, 1), LABELS)
    tensors = learner.tensors(learner.init(0))
    change(tensors)
    with pytest.raises(RemoteError, match=message):
        learner.state_of(tensors)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda l, s, x: l.predict(s[:-1], x), r"float32 \[650\], not float32 \[649\]"),
        (lambda l, s, x: l.predict(s.astype(np.float64), x), "float64"),
        (lambda l, s, x: l.predict(list(s), x), "list"),
        (lambda l, s, x: l.predict(s, x[:, :4]), r"shape \(4, 8, 1\)"),
        (lambda l, s, x: l.fit(s, Samples(x, np.zeros(len(x), np.int64), LABELS), FitPlan(lr=-1.0), 0), "lr must be positive"),
        (
            lambda l, s, x: l.fit(s, Samples(x, np.zeros(len(x), np.int64), LABELS), FitPlan(lr=1.0, momentum=1.0), 0),
            "momentum",
        ),
        (lambda l, s, x: TorchLearner("linear", (8, 8, 1), LABELS, device="moon").size, "device 'moon' is not here"),
        (lambda l, s, x: TorchLearner(f"{__name__}:Wrong", (8, 8, 1), LABELS).size, r"logits \[N, 10\].*\(1, 64\)"),
        (lambda l, s, x: TorchLearner(f"{__name__}:Doubles", (8, 8, 1), LABELS).size, "models are float32"),
    ],
)
def test_what_cannot_be_is_refused(call, message, small):
    learner = TorchLearner("linear", (8, 8, 1), LABELS)
    with pytest.raises(ConfigError, match=message):
        call(learner, learner.init(0), small.x_N)


def test_no_samples_change_nothing_and_get_no_answers(small):
    learner = TorchLearner("lenet", (8, 8, 1), LABELS)
    state, nobody = learner.init(0), Samples(small.x_N[:0], small.y_N[:0], LABELS)
    assert np.array_equal(learner.fit(state, nobody, PLAN, 0), state)
    assert learner.predict(state, nobody.x_N).shape == (0, 10)


def test_a_diverged_state_answers_uniformly(small):
    learner = TorchLearner("linear", (8, 8, 1), LABELS)
    answers_NC = learner.predict(np.full(learner.size, np.nan, np.float32), small.x_N[:3])
    assert np.allclose(answers_NC, -np.log(10))


def test_bf16_is_close_and_is_asked_for(small):
    learner = TorchLearner("lenet", (8, 8, 1), LABELS)
    state = learner.init(0)
    exact, rounded = (learner.fit(state, small, FitPlan(lr=0.05, steps=5, bf16=on), 0) for on in (False, True))
    assert not np.array_equal(exact, rounded)
    assert np.abs(exact - rounded).max() < 0.01


def test_soft_targets_teach_a_label_that_nobody_here_has(train):
    """A student with digits 0 to 4 learns 5 to 9 from the answers of a teacher about other samples."""
    test = DATASETS.get("digits").split("test")
    learner = TorchLearner("mlp", (8, 8, 1), LABELS, {"hidden": [32]})
    mine = np.flatnonzero(train.y_N[:500] < 5)
    own = Samples(train.x_N[mine], train.y_N[mine], LABELS)
    probs_NC = np.eye(10, dtype=np.float32)[train.y_N[500:]] * 0.9 + 0.01
    soft = SoftTargets(train.x_N[500:], probs_NC, np.ones(probs_NC.shape, bool), alpha=0.7)
    plan = FitPlan(lr=0.2, epochs=8, momentum=0.5)
    alone, taught = learner.fit(learner.init(0), own, plan, 0), learner.fit(learner.init(0), own, plan, 0, soft=soft)
    right = [(learner.predict(state, test.x_N).argmax(1) == test.y_N).mean() for state in (alone, taught)]
    assert right[0] < 0.55
    assert right[1] > 0.85


def test_a_teacher_says_nothing_about_a_label_outside_its_mask(train):
    """Under a mask of two labels, whatever the student believes about the rest stays as it was."""
    learner = TorchLearner("linear", (8, 8, 1), LABELS)
    state, nobody = learner.init(0), Samples(train.x_N[:0], train.y_N[:0], LABELS)
    mask_NC = np.zeros((64, 10), bool)
    mask_NC[:, :2] = True
    probs_NC = np.where(mask_NC, np.float32([0.8, 0.2] + [0] * 8), np.float32(0))
    soft = SoftTargets(train.x_N[:64], probs_NC, mask_NC, temperature=2.0, alpha=1.0)
    taught = learner.fit(state, nobody, FitPlan(lr=0.1, steps=50), 0, soft=soft)
    before, after = learner.tensors(state), learner.tensors(taught)
    assert np.array_equal(before["1.weight"][2:], after["1.weight"][2:])
    assert not np.array_equal(before["1.weight"][:2], after["1.weight"][:2])
    odds = np.exp(np.diff(learner.predict(taught, train.x_N[:64])[:, :2], axis=1))
    assert odds.mean() == pytest.approx(1 / 16, rel=0.5)  # at temperature 2 they are 0.2 / 0.8; squared at 1


def test_rows_without_a_known_label_are_skipped(small):
    learner = TorchLearner("linear", (8, 8, 1), LABELS)
    mask_NC = np.zeros((len(small), 10), bool)
    mask_NC[:50] = True
    probs_NC = np.where(mask_NC, np.float32(0.1), np.float32(0))
    every = SoftTargets(small.x_N, probs_NC, mask_NC)
    some = SoftTargets(small.x_N[:50], probs_NC[:50], mask_NC[:50])
    state = learner.init(0)
    assert np.array_equal(learner.fit(state, small, PLAN, 0, soft=every), learner.fit(state, small, PLAN, 0, soft=some))
    nothing = SoftTargets(small.x_N, probs_NC, np.zeros_like(mask_NC))
    assert np.array_equal(learner.fit(state, small, PLAN, 0, soft=nothing), learner.fit(state, small, PLAN, 0))


def test_soft_targets_by_reference_are_the_same(small):
    learner = TorchLearner("linear", (8, 8, 1), LABELS)
    probs_NC, mask_NC = np.full((200, 10), np.float32(0.1)), np.ones((200, 10), bool)
    here = SoftTargets(small.x_N, probs_NC, mask_NC)
    there = SoftTargets(DataRef("digits", "train", np.arange(200, dtype=np.int32)), probs_NC, mask_NC)
    state = learner.init(0)
    assert np.array_equal(learner.fit(state, small, PLAN, 0, soft=here), learner.fit(state, small, PLAN, 0, soft=there))


@pytest.mark.parametrize(
    ("soft", "message"),
    [
        (
            SoftTargets(np.zeros((2, 8, 8, 1), np.float32), np.zeros((2, 9), np.float32), np.ones((2, 9), bool)),
            "column for each",
        ),
        (
            SoftTargets(np.zeros((3, 8, 8, 1), np.float32), np.zeros((2, 10), np.float32), np.ones((2, 10), bool)),
            "row for each",
        ),
        (
            SoftTargets(np.zeros((2, 8, 8, 1), np.float32), np.zeros((2, 10), np.float32), np.ones((2, 10), bool), 0.0),
            "temperature",
        ),
        (
            SoftTargets(np.zeros((2, 8, 8, 1), np.float32), np.zeros((2, 10), np.float32), np.ones((2, 10), bool), 1.0, 2.0),
            "alpha",
        ),
    ],
)
def test_soft_targets_that_do_not_fit_are_refused(soft, message, small):
    learner = TorchLearner("linear", (8, 8, 1), LABELS)
    with pytest.raises(ConfigError, match=message):
        learner.fit(learner.init(0), small, PLAN, 0, soft=soft)


def test_refining_the_head_leaves_the_features_alone(small):
    learner = TorchLearner("mlp", (8, 8, 1), LABELS, {"hidden": [16]})
    state = learner.init(0)
    before, after = learner.tensors(state), learner.tensors(learner.refine_head(state, small, PLAN, 0))
    assert [name for name in before if not np.array_equal(before[name], after[name])] == ["3.weight", "3.bias"]


@pytest.mark.parametrize(
    ("architecture", "options", "flops"),
    [
        ("linear", {}, 2 * 64 * 10),
        ("mlp", {"hidden": [32, 16]}, 2 * (64 * 32 + 32 * 16 + 16 * 10)),
        ("lenet", {}, 2 * (64 * 6 * 9 + 16 * 16 * 6 * 9 + 64 * 32 + 32 * 10)),
        (f"{__name__}:Own", {}, 2 * 64 * 10),
    ],
)
def test_flops_are_two_for_each_multiply_add(architecture, options, flops):
    assert TorchLearner(architecture, (8, 8, 1), LABELS, options).flops_per_sample == flops


def test_a_learner_travels():
    learner = TorchLearner("mlp", (8, 8, 1), LABELS, {"hidden": [32]})
    assert values.loads(values.dumps(learner)) == learner
    assert learner.averageable
