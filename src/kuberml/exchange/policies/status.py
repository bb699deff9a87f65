"""How a client is: what its data are worth, how long it trains, what its battery still holds. It tells the server only."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Sequence
from typing import TypeVar

import msgspec
import numpy as np

from kuberml.core.errors import RemoteError
from kuberml.core.ids import NodeId
from kuberml.core.jobs import job
from kuberml.core.units import NS
from kuberml.exchange.node import Node
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.want import Offer
from kuberml.learning.datasets import samples
from kuberml.learning.jobs import predict_flops
from kuberml.learning.learner import label_positions
from kuberml.learning.predictor import Network
from kuberml.learning.types import Array, DataRef

T = TypeVar("T")
UNKNOWN = -1.0


class Status(msgspec.Struct, frozen=True):
    """What a client says.

    Attributes:
        utility: |B| sqrt(mean of squared losses) of the model that it was last sent; UNKNOWN before.
        fit_s: how long its last training took.
        fit_mj: what that took from its battery, millijoules.
        charge_mj: what is left; None: on mains, or it cannot say.
    """

    utility: float
    fit_s: float
    fit_mj: float
    charge_mj: float | None

    @property
    def known(self) -> bool:
        """Whether it has trained before."""
        return self.utility != UNKNOWN

    @property
    def left_mj(self) -> float | None:
        """What will be left after one more round."""
        return None if self.charge_mj is None else max(0.0, self.charge_mj - max(0.0, self.fit_mj))

    @property
    def lasts(self) -> bool:
        """Whether the battery lasts one more round, as far as is known."""
        return self.left_mj is None or self.left_mj > 0


@job(flops=predict_flops)
def utility(network: Network, data: DataRef) -> float:
    """Oort's statistical utility of private data under a model: |B| sqrt(1 / |B| sum of squared losses)."""
    own = samples(data)
    positions = label_positions(network.learner, own.labels)
    loss_N = -network.predict(own.x_N)[np.arange(len(own)), positions[own.y_N]].astype(np.float64)
    return math.sqrt(len(own) * float((loss_N**2).sum()))


async def noted(node: Node, network: Network, training: Awaitable[T]) -> T:
    """Wait for a client's training, and remember what it took and what its data were worth to the model that was sent."""
    began_ns, charge_mj = node.clock.now_ns(), node.place.charge_mj()
    found = await training
    took_s, left_mj = (node.clock.now_ns() - began_ns) / NS, node.place.charge_mj()
    spent_mj = 0 if charge_mj is None or left_mj is None else charge_mj - left_mj
    worth = await node.compute(utility, network, node.data.train)
    node.memory.update(status=[worth, took_s, float(spent_mj)])
    return found


def serve(node: Node) -> None:
    """Tell the server from now on; others get a RemoteError."""

    async def status(asker: str, _: Offer | None) -> Offer:
        if asker not in node.peers("server"):
            raise RemoteError(f"{asker} is not the server")
        number = node.memory.get("statuses", 0) + 1
        node.memory.update(statuses=number)
        charge_mj = node.place.charge_mj()
        said = [*node.memory.get("status", [UNKNOWN, 0.0, 0.0]), UNKNOWN if charge_mj is None else float(charge_mj)]
        content = Weights({"status": np.array(said, np.float64)})
        return await node.publish(content, slot="status", version=number, listed=False)

    node.serve(status=status)


async def statuses(node: Node, clients: Sequence[NodeId], *, timeout_s: float) -> dict[NodeId, Status]:
    """What those say that answer, in order."""
    found: dict[NodeId, Status] = {}
    async for offer in node.ask(clients, "status", None, timeout_s=timeout_s):
        content = await node.take(offer, Weights)
        said: Array | None = None if content is None else content.tensors.get("status")
        if said is None or said.shape != (4,) or said.dtype != np.float64 or not (said >= UNKNOWN).all():
            node.record("undelivered", card=offer.signed.digest, why="not a status: four numbers, -1 for what is not known")
            continue
        worth, took_s, spent_mj, charge_mj = said.tolist()
        found[offer.holders[0]] = Status(worth, took_s, spent_mj, None if charge_mj == UNKNOWN else charge_mj)
    return found
