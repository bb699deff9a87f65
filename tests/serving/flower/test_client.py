"""A kuberml learner under Flower's strategies. The grid is a loop in this process; all else is the real flwr package."""
# ruff: noqa: E402

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

flwr = pytest.importorskip("flwr", reason="the extra 'flower'")

from flwr.app import Array, ArrayRecord, Context, Message, Metadata, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, FedMedian

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.learning.datasets import DATASETS, samples
from kuberml.learning.extractors import identity
from kuberml.learning.head_learner import HeadLearner
from kuberml.learning.types import DataRef, FitPlan, Samples
from kuberml.serving.flower.client import client_app, initial

LEARNER = HeadLearner(identity(64), tuple("0123456789"), 64, (8, 8, 1))
NODES = 3


def data_of(context: Context) -> Samples:
    size = DATASETS.get("digits").size("train")
    return samples(DataRef("digits", "train", np.arange(int(context.node_config["partition-id"]), size, NODES, dtype=np.int32)))


class Loop(Grid):
    """Every message goes to the app and back, as records of bytes."""

    def __init__(self, app: Any) -> None:
        self._app, self._states = app, {node: RecordDict() for node in range(1, NODES + 1)}

    def set_run(self, run: Any) -> None:
        """There is one."""

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def create_message(self, content: Any, message_type: str, dst_node_id: int, group_id: str, ttl: Any = None) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return list(self._states)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return [self._answered(message) for message in messages]

    def _answered(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        context = Context(1, node, {"partition-id": node - 1, "num-partitions": NODES}, self._states[node], {})
        return self._app(message, context)


@pytest.fixture(autouse=True)
def task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower's server side knows which run it is in."""
    identity_of = pytest.importorskip("flwr.supercore.task_identity").TaskIdentity
    for name, number in (("_run_id", 1), ("_node_id", 1), ("_task_id", 1)):
        if hasattr(identity_of, name):
            monkeypatch.setattr(identity_of, name, number)


@pytest.mark.parametrize("strategy", [FedAvg, FedMedian])
def test_flowers_strategies_train_our_learner(strategy: Any) -> None:
    app = client_app(LEARNER, data_of, FitPlan(lr=0.1, epochs=2))
    start = ArrayRecord({"state": Array(initial(LEARNER))})
    result = strategy(min_train_nodes=NODES).start(Loop(app), start, num_rounds=3)
    accuracy = [result.evaluate_metrics_clientapp[r]["accuracy"] for r in (1, 2, 3)]
    assert accuracy[-1] > 0.85
    assert accuracy[-1] >= accuracy[0]
    state = result.arrays["state"].numpy()
    test = DATASETS.get("digits").split("test")
    assert np.mean(LEARNER.predict(state, test.x_N).argmax(1) == test.y_N) > 0.8


def message(**arrays: Any) -> Message:
    about = Metadata(1, "m", 1, 2, "", "1", 1.0, 1e12, "train")
    return Message(content=RecordDict({"arrays": ArrayRecord({name: Array(a) for name, a in arrays.items()})}), metadata=about)


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"other": np.zeros(3, np.float32)}, r"arrays \['other'\] came, not \['state'\]"),
        ({"state": np.zeros(3, np.float32)}, "of finite floats is right"),
        ({"state": np.full(650, np.inf, np.float32)}, "of finite floats is right"),
    ],
)
def test_a_model_that_is_not_the_learners_is_refused(arrays: dict[str, Any], text: str) -> None:
    app = client_app(LEARNER, data_of, FitPlan(lr=0.1))
    with pytest.raises(RemoteError, match=text):
        app(message(**arrays), Context(1, 2, {"partition-id": 0}, RecordDict(), {}))


def test_an_array_that_would_have_to_be_unpickled_is_refused() -> None:
    import io

    hidden = io.BytesIO()
    np.save(hidden, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    array = Array("float32", (650,), "numpy.ndarray", hidden.getvalue())
    about = Metadata(1, "m", 1, 2, "", "1", 1.0, 1e12, "train")
    carrying = Message(content=RecordDict({"arrays": ArrayRecord({"state": array})}), metadata=about)
    app = client_app(LEARNER, data_of, FitPlan(lr=0.1))
    with pytest.raises(RemoteError, match="cannot be read"):
        app(carrying, Context(1, 2, {"partition-id": 0}, RecordDict(), {}))


def test_a_learner_whose_states_are_no_vectors_is_refused() -> None:
    class Tree:
        averageable = False

    with pytest.raises(ConfigError, match="average arrays"):
        client_app(Tree(), data_of, FitPlan(lr=0.1))  # type: ignore[arg-type]
