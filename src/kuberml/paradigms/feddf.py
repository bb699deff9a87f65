"""FedDF: FedAvg whose server lets the mean model learn, on public samples without labels, what its clients say together.

T. Lin, L. Kong, S. U. Stich, M. Jaggi: Ensemble Distillation for Robust Model Fusion in Federated Learning. NeurIPS 2020
(arXiv 2006.07242), algorithm 1: from the mean of the clients weighted by samples, go down KL(softmax(mean of their logits) ||
softmax of one's own) on unlabelled batches. One architecture here. The paper keeps the model of the best validation loss; the
server has no labels here, and takes the last. The probe is delivered to the server once.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from msgspec import Meta

from kuberml.exchange.memory import Memory
from kuberml.exchange.node import Node
from kuberml.exchange.public import public
from kuberml.exchange.states import Vectors
from kuberml.exchange.steps.table import Collects
from kuberml.knowledge.kinds.probe import Probe
from kuberml.learning.averaging import Mean
from kuberml.learning.fusion import ask, fuse
from kuberml.learning.predictor import Network
from kuberml.learning.types import FitPlan
from kuberml.paradigms import fedavg
from kuberml.paradigms.fedavg import client

__all__ = ["Config", "Fusing", "client", "server"]

COMMON_MODEL = True
"""States are averaged or sent back: everybody has the same architecture."""

PUBLIC = ("probe",)
"""Public things that it uses; a world has them published."""


class Config(fedavg.Config, frozen=True, kw_only=True):
    """Options. `fusion_lr`, `fusion_epochs`: how the server learns on the probe, in batches of `batch`."""

    collects: ClassVar[Collects] = "each"
    needs_probe: ClassVar[bool] = True

    fusion_lr: Annotated[float, Meta(gt=0)] = 0.05
    fusion_epochs: Annotated[int, Meta(ge=1)] = 5


class Fusing(fedavg.Averaging):
    """The server's step. It keeps the mean of the clients' answers, not their models."""

    def __init__(self, node: Node, cfg: Config, probe: Probe) -> None:
        self.node, self.probe, self.answers = node, probe, Mean()
        self.plan = FitPlan(cfg.fusion_lr, epochs=cfg.fusion_epochs, batch=cfg.batch)

    async def take(self, came: Vectors) -> None:
        """Ask a client about the probe. Its log-probabilities are logits up to a number a sample, which softmax drops."""
        said_NC = await self.node.compute(ask, Network(self.node.learner, came["state"]), self.probe)
        self.answers.add(said_NC, 1.0)

    async def step(self, memory: Memory, means: Vectors, answers: int, clients: int) -> dict[str, Any]:
        """From the mean of the weights towards the mean of the answers."""
        said_NC, self.answers = self.answers.result(means["state"]), Mean()
        seed = self.node.seed("fuse", memory.round)
        weights = await self.node.compute(fuse, self.node.learner, means["state"], self.probe, said_NC, self.plan, seed)
        return {"weights": weights}


async def server(node: Node, cfg: Config) -> None:
    """The rounds of FedAvg, with a fusion after each mean."""
    await fedavg.rounds(node, cfg, node.learner, Fusing(node, cfg, await public(node, "probe")))
