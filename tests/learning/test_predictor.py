import msgspec
import numpy as np
import pytest

from kuberml.core import values
from kuberml.core.errors import ConfigError
from kuberml.learning.datasets import DATASETS
from kuberml.learning.evaluation import score
from kuberml.learning.predictor import Blend, Network, align, log_softmax
from kuberml.learning.torch_learner import TorchLearner
from kuberml.learning.types import FitPlan, Samples


@values.value
class Fixed(msgspec.Struct, frozen=True):
    """Answers every sample with the same probabilities."""

    labels: tuple[str, ...]
    probs: tuple[float, ...]
    flops_per_sample: int = 7

    def predict(self, x_N):
        with np.errstate(divide="ignore"):
            return np.tile(np.log(np.float32(self.probs)), (len(x_N), 1))


def data(names, labels=("a", "b", "c")):
    y_N = np.array([labels.index(name) for name in names], np.int64)
    return Samples(np.zeros((len(y_N), 1), np.float32), y_N, labels)


def test_a_network_is_its_learner_and_state():
    train = DATASETS.get("digits").split("train")
    learner = TorchLearner("linear", (8, 8, 1), train.labels)
    state = learner.fit(learner.init(0), train, FitPlan(lr=0.5, epochs=5), 0)
    network = values.loads(values.dumps(Network(learner, state)))
    assert network.labels == train.labels
    assert network.flops_per_sample == 1280
    assert np.array_equal(network.predict(train.x_N[:9]), learner.predict(state, train.x_N[:9]))
    scores = score(network, train)
    assert scores.count_C.sum() == len(train)
    assert scores.accuracy_own == (learner.predict(state, train.x_N).argmax(1) == train.y_N).mean()


def test_scores_count_per_label_by_name():
    scores = score(Fixed(("c", "a"), (0.3, 0.7)), data("aabc"))
    assert scores.labels == ("a", "b", "c")
    assert scores.correct_C.tolist() == [2, 0, 0]
    assert scores.count_C.tolist() == [2, 1, 1]
    assert scores.accuracy == pytest.approx(1 / 3)


def test_an_answer_that_the_data_do_not_know_is_wrong():
    assert score(Fixed(("a", "z"), (0.4, 0.6)), data("aab")).correct_C.tolist() == [0, 0, 0]


def test_no_samples_have_no_score():
    scores = score(Fixed(("a",), (1.0,)), data(""))
    assert scores.count_C.tolist() == [0, 0, 0]
    assert np.isnan(scores.accuracy)


def test_a_blend_asks_each_for_what_it_knows():
    blend = Blend(Fixed(("a", "b"), (0.6, 0.4)), Fixed(("b", "c"), (0.1, 0.9)), {"b": 1.0})
    assert blend.labels == ("a", "b", "c")
    assert blend.flops_per_sample == 14
    probs_NC = np.exp(blend.predict(np.zeros((2, 1))))
    assert np.allclose(probs_NC, np.array([0.6, 0.4, 0.9]) / 1.9)
    even = Blend(blend.first, blend.second)
    assert np.allclose(np.exp(even.predict(np.zeros((1, 1)))), np.array([0.6, 0.25, 0.9]) / 1.75)
    assert score(blend, data("cca")).correct_C.tolist() == [0, 0, 2]
    assert values.loads(values.dumps(blend)) == blend


def test_a_blend_of_certainties_stays_finite():
    answers_NC = Blend(Fixed(("a", "b"), (1.0, 0.0)), Fixed(("a", "b"), (1.0, 0.0))).predict(np.zeros((1, 1)))
    assert np.isfinite(answers_NC).all()


@pytest.mark.parametrize("share", [{"z": 0.5}, {"a": 1.5}])
def test_a_share_that_cannot_be_is_refused(share):
    with pytest.raises(ConfigError, match="share"):
        Blend(Fixed(("a",), (1.0,)), Fixed(("a",), (1.0,)), share).predict(np.zeros((1, 1)))


def test_columns_move_by_name():
    moved = align(np.float32([[1, 2, 3]]), ("a", "b", "c"), ("c", "x", "a"), missing=-1)
    assert moved.tolist() == [[3, -1, 1]]
    assert align(np.ones((2, 1), np.float32), ("a",), ("b",)).tolist() == [[0], [0]]


def test_log_softmax_holds_for_large_scores():
    assert np.allclose(log_softmax([[1000.0, 1000.0], [0.0, -2000.0]]), [[-np.log(2)] * 2, [0, -2000]])
