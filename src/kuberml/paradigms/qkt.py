"""Query-based knowledge transfer: learn alone, ask once for the models of others, and learn from what each is an expert in.

N. Alballa, W. Zhang, Z. Liu, A. M. Abdelmoniem, M. Elhoseiny, M. Canini: Query-based Knowledge Transfer for Heterogeneous
Learning Environments. ICLR 2025 (arXiv 2504.09205). A query is the labels that one wants. Teachers are probed with noise, which
shows what each has learned; those that know a label of the query teach, each through the mask of its own labels; then the last
layer is refined alone.

The authors' code is not public and this was written from the abstract: the rule of the mask (`share`), T and alpha are ours,
and so is asking `teachers` peers drawn by lot instead of all. One architecture; cards name no labels, as masks come from noise.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from kuberml.core.ids import NodeId
from kuberml.core.ranges import NonNegative
from kuberml.exchange.node import Node, OverBudget
from kuberml.exchange.public import public
from kuberml.exchange.states import packed, take_state
from kuberml.knowledge.card import SignedCard
from kuberml.learning.jobs import fit, init_state
from kuberml.learning.masked_transfer import Mask, experts, transfer
from kuberml.learning.predictor import Network
from kuberml.learning.types import Array
from kuberml.paradigms.options import Training

COMMON_MODEL = True
"""Teachers' states are read by the student: everybody has the same architecture."""

PUBLIC = ("probe",)
"""Public things that it uses; a world has them published."""


class Config(Training, frozen=True, kw_only=True):
    """Options.

    Attributes:
        query: "lacking": labels of which this node has no sample; "all".
        teachers: peers that are asked; 0: all of them.
        on: what teachers are asked about: the node's "own" samples, as in the paper, or the public "probe".
        noise, share: inputs of noise, and the share of an even probability that makes an expert; see `masked_transfer`.
        temperature, alpha: of the distillation.
        transfer_epochs: of each of its two phases.
        patience_s: how long to wait for a teacher that is still learning.
    """

    query: Literal["lacking", "all"] = "lacking"
    teachers: Annotated[int, Meta(ge=0)] = 8
    on: Literal["own", "probe"] = "own"
    noise: Annotated[int, Meta(ge=1)] = 256
    share: Annotated[float, Meta(gt=0)] = 0.5
    temperature: Annotated[float, Meta(gt=0)] = 2.0
    alpha: Annotated[float, Meta(ge=0, le=1)] = 0.5
    transfer_epochs: Annotated[int, Meta(ge=1)] = 1
    patience_s: NonNegative = 600.0

    @property
    def needs_probe(self) -> bool:
        """Whether it asks for public samples."""
        return self.on == "probe"


async def peer(node: Node, cfg: Config) -> None:
    """Learn alone, ask, learn from others. A restarted node goes on after what it had finished."""
    start = await node.compute(init_state, node.learner, node.seed("init"))
    node.memory.setdefault(done="nothing", state=start)
    if node.memory.done == "nothing":
        state = await node.compute(fit, node.learner, start, node.data.train, cfg.plan, node.seed("fit"))
        node.memory.update(done="alone", state=state)
    if node.memory.done == "alone":
        node.deploy(Network(node.learner, node.memory.state))
        await node.publish(packed(node.memory.state), slot="teacher", version=0, listed=False)
        try:
            await learn(node, cfg)
        except OverBudget as error:
            node.record("spent", why=str(error))
        return
    node.deploy(Network(node.learner, node.memory.state))


async def learn(node: Node, cfg: Config) -> None:
    """Ask the teachers, choose those that know what is wanted, and learn from them. Who is late or gone is left out."""
    x_N = (await public(node, "probe")).inputs() if cfg.needs_probe else None
    own = node.data.counts
    wanted = [cfg.query == "all" or label not in own for label in node.learner.labels]
    teachers: list[Array] = []
    masks: list[Mask] = []
    cards: list[SignedCard] = []
    for offer in await node.latest(drawn(node, cfg), slot="teacher", timeout_s=cfg.patience_s, at_least=0):
        state = await take_state(node, offer, node.memory.state)
        if state is None:
            continue
        inputs = (node.learner, state, node.place.shape, cfg.noise, cfg.share, node.seed("noise", len(cards)))
        mask_C = await node.compute(experts, *inputs)
        cards.append(offer.signed)
        if mask_C.sum() > 1 and mask_C[wanted].any():  # among one label there is nothing to say
            teachers.append(state)
            masks.append(mask_C)
    if teachers:
        plan = Training(
            **{**{name: getattr(cfg, name) for name in Training.__struct_fields__}, "epochs": cfg.transfer_epochs}
        ).plan
        rest = (x_N, plan, node.seed("transfer"), cfg.temperature, cfg.alpha)
        state = await node.compute(transfer, node.learner, node.memory.state, node.data.train, teachers, masks, *rest)
        node.memory.update(done="taught", state=state)
        node.deploy(Network(node.learner, state), learned=cards)


def drawn(node: Node, cfg: Config) -> list[NodeId]:
    """The peers that are asked."""
    peers = node.peers("peer")
    count = min(cfg.teachers or len(peers), len(peers))
    chosen = node.rng("teachers").choice(peers, count, replace=False).tolist() if count else []
    return sorted(NodeId(name) for name in chosen)
