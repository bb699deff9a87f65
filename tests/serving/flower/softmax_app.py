"""A Flower app as people write them: numpy, the digits of its partition, a softmax in two arrays; no learner of ours."""

from __future__ import annotations

from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from kuberml.learning.datasets import DATASETS, samples
from kuberml.learning.types import DataRef

app = ClientApp()
broken = ClientApp()
other = ClientApp()


def initial() -> dict[str, Any]:
    return {"weights": np.zeros((64, 10), np.float32), "bias": np.zeros(10, np.float32)}


def predict(arrays: dict[str, Any], x_N: Any) -> Any:
    return x_N.reshape(len(x_N), -1) @ arrays["weights"] + arrays["bias"]


def load_data(partition: int, partitions: int) -> tuple[Any, Any]:
    size = DATASETS.get("digits").size("train")
    mine = samples(DataRef("digits", "train", np.arange(partition, size, partitions, dtype=np.int32)))
    return mine.x_N, mine.y_N


@app.train()
def train(message: Message, context: Context) -> Message:
    arrays = {name: array.numpy().copy() for name, array in message.content["arrays"].items()}
    x_N, y_N = load_data(context.node_config["partition-id"], context.node_config["num-partitions"])
    for _ in range(20):
        logits_NC = predict(arrays, x_N)
        p_NC = np.exp(logits_NC - logits_NC.max(1, keepdims=True))
        p_NC /= p_NC.sum(1, keepdims=True)
        p_NC[np.arange(len(y_N)), y_N] -= 1
        arrays["weights"] -= (x_N.reshape(len(x_N), -1).T @ p_NC / len(x_N)).astype(np.float32)
        arrays["bias"] -= p_NC.mean(0).astype(np.float32)
    record = ArrayRecord({name: Array(array) for name, array in arrays.items()})
    metrics = MetricRecord({"num-examples": len(y_N), "server-round": int(message.content["config"]["server-round"])})
    return Message(content=RecordDict({"arrays": record, "metrics": metrics}), reply_to=message)


@broken.train()
def fail(message: Message, context: Context) -> Message:
    raise ValueError("out of data")


@other.train()
def too_small(message: Message, context: Context) -> Message:
    record = ArrayRecord({"weights": Array(np.zeros((2, 2), np.float32)), "bias": Array(np.zeros(10, np.float32))})
    return Message(content=RecordDict({"arrays": record, "metrics": MetricRecord({"num-examples": 1})}), reply_to=message)
