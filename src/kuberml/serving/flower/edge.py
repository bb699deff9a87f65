"""A Flower ClientApp as an edge: the rounds of FedAvg (McMahan et al., AISTATS 2017), each client an app with its own data.

Beside a scenario lies a file that says which app it is; the scenario names the file (`use = "my_flower.py"`):

    from kuberml.serving.flower.edge import Config, client, server      # options: app, initial, predict; those of fedavg

The app is called as Flower calls it, with a `train` message and a Context of its partition. It loads its own data. Its
`context.state` begins empty in every round: an app that keeps something there between rounds starts anew.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import LabelId
from kuberml.core.jobs import job
from kuberml.core.values import value
from kuberml.exchange.node import Node
from kuberml.exchange.states import Vectors, packed
from kuberml.knowledge.want import Offer
from kuberml.learning.learner import Learner, SoftTargets
from kuberml.learning.predictor import log_softmax
from kuberml.learning.types import Array, FitPlan, Samples
from kuberml.paradigms import fedavg
from kuberml.serving.flower.arrays import arrays_in, flat, flower, layout_of, named, named_thing, record_of

COMMON_MODEL = True
"""States are averaged or sent back: everybody has the same architecture."""

FOR_EVER_S = 1e12
"""Of a message: it is answered here and now, and a job knows no clock."""


class Config(fedavg.Config, frozen=True, kw_only=True):
    """Options.

    Attributes:
        app: "package.module:name" of the ClientApp.
        initial: the same of a function () -> dict of arrays by name: the model to begin with.
        predict: the same of a function (arrays, x [N, ...]) -> logits [N, C]; without it nobody can serve the model.
        partitions: that the app's data have; 0: one for each client.
        work_flops: of one `train`: an app does not say what it costs.
    """

    app: str = ""
    initial: str = ""
    predict: str = ""
    partitions: int = 0
    work_flops: int = 0


@value
class FlowerLearner(msgspec.Struct, frozen=True):
    """The model of a Flower app, as a learner: it begins and answers; training is the app's (see `train`)."""

    labels: tuple[LabelId, ...]
    initial: str
    predicts: str

    averageable = True
    flops_per_sample = 0

    def init(self, seed: int) -> Array:
        """What the app's author begins with; the seed has no say."""
        arrays = named_thing(self.initial, "initial")()
        return flat(arrays, layout_of(arrays))

    def fit(self, state: Array, samples: Samples, plan: FitPlan, seed: int, *, soft: SoftTargets | None = None) -> Array:
        """Raises ConfigError: an app has its own data."""
        raise ConfigError("a Flower app trains on data of its own, in `train` messages")

    def predict(self, state: Array, x_N: Array) -> Array:
        """Log-probabilities float32 [N, C]. Raises ConfigError: the app's `predict` gives another shape."""
        arrays = named(state, layout_of(named_thing(self.initial, "initial")()))
        logits_NC = np.asarray(named_thing(self.predicts, "predict")(arrays, x_N), np.float32)
        if logits_NC.shape != (len(x_N), len(self.labels)):
            raise ConfigError(f"predict = {self.predicts!r} gave {logits_NC.shape}, not {(len(x_N), len(self.labels))}")
        return log_softmax(logits_NC)


@job(flops=lambda app, initial, state_P, number, partition, partitions, work_flops: work_flops)
def train(
    app: str, initial: str, state_P: Array, number: int, partition: int, partitions: int, work_flops: int
) -> tuple[Array, int]:
    """What a ClientApp makes of a state in one `train` message, and how many examples it says it used.

    Raises:
        RemoteError: it fails, or its answer is not what Flower's strategies take.
    """
    kit, layout = flower("flwr.app"), layout_of(named_thing(initial, "initial")())
    content = {"arrays": record_of(named(state_P, layout)), "config": kit.ConfigRecord({"server-round": number + 1})}
    about = kit.Metadata(
        run_id=1, message_id=f"{number}.{partition}", src_node_id=1, dst_node_id=partition + 2, reply_to_message_id="",
        group_id=str(number + 1), created_at=1.0, ttl=FOR_EVER_S, message_type="train",
    )  # fmt: skip
    message = kit.Message(content=kit.RecordDict(content), metadata=about)
    config = {"partition-id": partition, "num-partitions": partitions}
    context = kit.Context(run_id=1, node_id=partition + 2, node_config=config, state=kit.RecordDict(), run_config={})
    try:
        reply = named_thing(app, "app")(message, context)
    except Exception as error:
        raise RemoteError(f"the Flower app {app} failed: {type(error).__name__}: {error}") from error
    if reply.has_error():
        raise RemoteError(f"the Flower app {app} answered with an error: {reply.error.reason}")
    records, metrics = list(reply.content.array_records.values()), list(reply.content.metric_records.values())
    counts = [int(record["num-examples"]) for record in metrics if "num-examples" in record]
    if len(records) != 1 or len(counts) != 1 or counts[0] < 0:
        came = f"{len(records)} array records and num-examples {counts}"
        raise RemoteError(f"the Flower app {app} answered {came}; one of each is right")
    return flat(arrays_in(records[0]), layout), counts[0]


async def server(node: Node, cfg: Config) -> None:
    """The rounds of FedAvg."""
    await fedavg.rounds(node, cfg, _learner(node, cfg))


async def client(node: Node, cfg: Config) -> None:
    """Let the app train when asked, serve what is adopted."""
    others = (*node.peers("client"), node.id)
    partition = sorted(others).index(node.id)

    async def answer(_: Learner, r: int, start: Vectors) -> Offer:
        every = cfg.partitions or len(others)
        state_P, examples = await node.compute(
            train, cfg.app, cfg.initial, start["state"], r, partition % every, every, cfg.work_flops
        )
        return await fedavg.hand_in(node, r, packed(state_P, {node.task: examples} if examples else {}))

    await fedavg.follow(node, cfg, fedavg.at_once(_learner(node, cfg)), answer)


def _learner(node: Node, cfg: Config) -> Any:
    return FlowerLearner(node.learner.labels, cfg.initial, cfg.predict)
