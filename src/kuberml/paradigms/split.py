"""Split learning: one network, cut. Clients keep its front and train in turn; the server keeps the rest and sees no sample.

O. Gupta, R. Raskar: Distributed learning of deep neural network over multiple agents. JNCA 2018,
arXiv 1810.06060 (2018), algorithm 1. P. Vepakomma, O. Gupta, T. Swedish, R. Raskar: Split learning for health, arXiv 1812.00564
(2018): with labels shared, and U-shaped (`labels = "stay"`), where the last layer and the labels stay with the client too.

For each batch activations go up and their gradient comes down; a client hands its part to the next through the server (the
papers' centralised mode). A turn equals training the whole network on the client's batches. No autograd graph crosses a
job: the server's forward and backward are one, where labels are shared, and everything else goes forward again. The papers'
clients ask the server to answer; here everybody gets the whole network every `hand_out` rounds, and answers alone.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from kuberml.core.errors import ConfigError
from kuberml.core.ranges import Whole
from kuberml.exchange.node import Node
from kuberml.exchange.split_turns import Body, Learning, Turn
from kuberml.exchange.states import fetch_state
from kuberml.knowledge.want import Offer
from kuberml.learning import split
from kuberml.learning.jobs import init_state
from kuberml.learning.predictor import Network
from kuberml.paradigms.fedavg import hand_out
from kuberml.paradigms.options import Handing

COMMON_MODEL = True
"""Everybody trains the same network."""


class Config(Handing, frozen=True, kw_only=True):
    """Options.

    Attributes:
        rounds: how often everybody has a turn.
        cut: the layer that begins the server's part; see `learning.split`.
        labels: "shared": a batch's labels go up with its activations; "stay": U-shaped.
        tries: turns that are begun with a client before it is passed over.
        hand_out: rounds after which everybody gets the whole network; 0: at the end only.
    """

    rounds: Whole = 20
    cut: str = ""
    labels: Literal["shared", "stay"] = "shared"
    tries: Annotated[int, Meta(ge=1)] = 3
    hand_out: Annotated[int, Meta(ge=0)] = 1

    def parts(self, node: Node) -> split.Split:
        """The network of a node, cut. Raises ConfigError: it cannot be, or a plan in bfloat16, which does not travel."""
        if self.bf16:
            raise ConfigError("bf16 = true: what passes a cut travels as float32; leave it out")
        return split.cut(node.learner, self.cut, labels_stay=self.labels == "stay")


async def server(node: Node, cfg: Config) -> None:
    """Let one client after the other train, in an order of its own each round. A turn is one transaction."""
    parts = cfg.parts(node)
    weights_P = await node.compute(init_state, node.learner, node.seed("init"))
    node.memory.setdefault(round=0, order=[], turns=0, weights=weights_P)
    while node.memory.round < cfg.rounds:
        r = node.memory.round
        if not node.memory.order:
            order = node.rng("order", r).permutation(node.peers("client")).tolist()
            if not order:
                node.memory.update(round=r + 1)
                continue
            node.memory.update(order=order)
        client, *rest = node.memory.order
        own = parts.divide(node.memory.weights)
        body = own.pop("body")
        after = {"order": rest, "turns": node.memory.turns + 1, "round": r if rest else r + 1}
        for _ in range(cfg.tries):
            learning = Body(node, parts, cfg.plan, body)
            found = await Turn(node, client, node.memory.turns, cfg.deadline_s).run(own, learning)
            if found is not None:
                after["weights"] = parts.join({**found[0], "body": learning.weights_F})
                break
        node.memory.update(**after)
        if not rest and cfg.hand_out and (r + 1) % cfg.hand_out == 0 and r + 1 < cfg.rounds:
            await hand_out(node, cfg, r + 1)
    await hand_out(node, cfg, cfg.rounds)


async def client(node: Node, cfg: Config) -> None:
    """Train one's own parts when asked; serve the whole network."""
    learning = Learning(node, cfg.parts(node), cfg.plan)

    async def adopt(_: str, base: Offer | None) -> None:
        state = await fetch_state(node, base)
        node.deploy(Network(node.learner, state), learned=[base.signed] if base else [])

    node.serve(begin=learning.begin, back=learning.back, tail=learning.tail, adopt=adopt)
    await node.until_done()
