"""A kuberml learner as a Flower client: what `flwr run` or a SuperNode loads.

    app = client_app(learner, data_of, FitPlan(lr=0.1))     # data_of(context) -> Samples of this partition

It answers `train` with its arrays and "num-examples", and `evaluate` with "accuracy", as Flower's strategies expect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.learning.evaluation import score
from kuberml.learning.learner import Learner
from kuberml.learning.predictor import Network
from kuberml.learning.types import Array, FitPlan, Samples
from kuberml.serving.flower.arrays import arrays_in, flat, flower, layout_of, record_of

STATE = "state"
"""Name of the one array: a learner's state is a flat vector."""
DataOf = Callable[[Any], Samples]
"""Flower's Context -> what this client has: `context.node_config["partition-id"]` says which."""


def client_app(learner: Learner, data_of: DataOf, plan: FitPlan, *, heldout_of: DataOf | None = None) -> Any:
    """A Flower ClientApp that trains and evaluates this learner.

    Args:
        learner: whose states can be averaged.
        data_of: its training samples.
        plan: of one fit; the seed is the server's round, if the message says it, and the partition.
        heldout_of: samples for `evaluate`; None: the training samples.

    Raises:
        MissingExtra: flwr is not installed. ConfigError: the learner's states cannot be averaged.
    """
    if not learner.averageable:
        raise ConfigError(f"{learner!r:.80}: its states are no vectors, and Flower's strategies average arrays")
    app = flower("flwr.clientapp").ClientApp()
    layout = layout_of({STATE: initial(learner)})

    def state_in(message: Any) -> Array:
        records = list(message.content.array_records.values())
        if len(records) != 1:
            raise RemoteError(f"a message with {len(records)} array records came; one, of the model, is right")
        return flat(arrays_in(records[0]), layout)

    @app.train()  # type: ignore[untyped-decorator]
    def train(message: Any, context: Any) -> Any:
        samples = data_of(context)
        state_P: Array = learner.fit(state_in(message), samples, plan, _seed(message, context))
        return _reply(message, {"arrays": record_of({STATE: state_P})}, {"num-examples": len(samples)})

    @app.evaluate()  # type: ignore[untyped-decorator]
    def evaluate(message: Any, context: Any) -> Any:
        samples = (heldout_of or data_of)(context)
        scores = score(Network(learner, state_in(message)), samples)
        return _reply(message, {}, {"num-examples": len(samples), "accuracy": scores.accuracy_own})

    return app


def initial(learner: Learner, seed: int = 0) -> Array:
    """A state to begin with: `ArrayRecord({"state": Array(initial(learner))})` is what a strategy starts from."""
    return np.asarray(learner.init(seed), np.float32)


def _seed(message: Any, context: Any) -> int:
    rounds = [int(config["server-round"]) for config in message.content.config_records.values() if "server-round" in config]
    return 1000 * (rounds[0] if rounds else 0) + int(context.node_config.get("partition-id", 0))


def _reply(message: Any, records: dict[str, Any], metrics: dict[str, float]) -> Any:
    app = flower("flwr.app")
    return app.Message(content=app.RecordDict({**records, "metrics": app.MetricRecord(metrics)}), reply_to=message)
