"""FedAvg: a server asks a cohort to train its model on their data and averages what comes back, round by round.

H. B. McMahan, E. Moore, D. Ramage, S. Hampson, B. Aguera y Arcas: Communication-Efficient Learning of Deep Networks from
Decentralized Data. AISTATS 2017, algorithm 1: w <- sum over the cohort of (n_k / n) w_k.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import closing
from typing import ClassVar

from kuberml.core.ranges import Share, Whole
from kuberml.exchange.gathering import Averaging, Gathering
from kuberml.exchange.node import Node
from kuberml.exchange.policies import offloading
from kuberml.exchange.policies.clients import serve_besides
from kuberml.exchange.policies.late import gatherer
from kuberml.exchange.policies.status import noted
from kuberml.exchange.states import Vectors, fetch_state, fetch_vectors, packed
from kuberml.exchange.steps.chain import sent_through
from kuberml.exchange.steps.table import Collects
from kuberml.exchange.steps.update import Content
from kuberml.knowledge.card import SignedCard
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.want import Offer
from kuberml.learning.jobs import init_state
from kuberml.learning.learner import Learner
from kuberml.learning.predictor import Network
from kuberml.paradigms.options import Handing

__all__ = ["PLAIN", "Answer", "Averaging", "Config", "client", "server"]
__all__ += ["at_once", "follow", "gathering", "hand_in", "hand_out", "one_round", "rounds"]

COMMON_MODEL = True
"""States are averaged or sent back: everybody has the same architecture."""

Answer = Callable[[Learner, int, Vectors], Awaitable[Offer]]
"""What a client does with (its learner, the base's version, the base's tensors): the update that it hands in."""


class Config(Handing, frozen=True, kw_only=True):
    """Options. A round's cohort is a share of the clients that are present, at least one."""

    collects: ClassVar[Collects] = "sum"
    offloads: ClassVar[bool] = True
    rounds: Whole = 20
    cohort: Share = 1.0


async def server(node: Node, cfg: Config) -> None:
    """Publish the model, ask a cohort to fit it, average in node order; last of all, let everybody adopt it."""
    await rounds(node, cfg, node.learner)


async def client(node: Node, cfg: Config) -> None:
    """Fit what is asked, serve what is adopted."""
    await follow(node, cfg, at_once(node.learner))


PLAIN = Averaging()


async def rounds(node: Node, cfg: Config, learner: Learner, server: Averaging = PLAIN) -> None:
    """The server's rounds for any learner whose states can be averaged. A restarted server does its round again."""
    weights_P = await node.compute(init_state, learner, node.seed("init"))
    node.memory.setdefault(round=0, weights=weights_P, **server.start(weights_P))
    offloading.serve(node, cfg, learner, cloud=True)
    with closing(gathering(node, cfg, server)) as gathers:
        for _ in range(node.memory.round, cfg.rounds):
            await one_round(node, gathers)
    await hand_out(node, cfg, cfg.rounds)


def gathering(node: Node, cfg: Config, server: Averaging = PLAIN) -> Gathering:
    """What draws this server's cohorts and gathers their updates, round after round; close it."""
    return gatherer(node, server, cfg.chain, cfg.choice, deadline_s=cfg.deadline_s)


async def one_round(node: Node, gathers: Gathering) -> list[SignedCard]:
    """The next round on what the server remembers; the updates that it took in."""
    r, clients, server = node.memory.round, node.peers("client"), gathers.server
    cohort = await gathers.draw(r, clients)
    sent = {name: node.memory.get(entry) for name, entry in server.sends.items()}
    base = await node.publish(Weights(sent), slot="global", version=r, keep=2, listed=False)
    found, taken = await gathers.collect(r, cohort, base, sent)
    entries = await server.step(node.memory, found, len(taken), len(clients)) if taken else {}
    node.memory.update(round=r + 1, **entries, **gathers.remembers())
    return taken


async def hand_out(node: Node, cfg: Handing, version: int) -> None:
    """Last of all, let everybody adopt the weights."""
    final = await node.publish(packed(node.memory.weights), slot="global", version=version, keep=2, listed=False)
    async for _ in node.ask(node.peers("client"), "adopt", final, timeout_s=cfg.deadline_s):
        pass


async def follow(
    node: Node, cfg: Handing, learner: asyncio.Future[Learner],
    answer: Answer | None = None, reads: Collection[str] = ("state",),
) -> None:  # fmt: skip
    """The client's side of `rounds`. It serves at once, also while its learner is still being delivered.

    Asked to fit, it gives an `answer` (default: a plain fit) to the tensors of the base that it `reads`.
    """

    async def adopt(_: str, base: Offer | None) -> None:
        state = await fetch_state(node, base)
        node.deploy(Network(await learner, state), learned=[base.signed] if base else [])

    async def train(asker: str, base: Offer | None) -> Offer:
        start = await fetch_vectors(node, base, reads)
        assert base is not None, "a state came out of it"
        network = Network(await learner, start["state"])
        node.deploy(network, learned=[base.signed])
        answering = (answer or plain)(await learner, base.signed.card.version, start)
        return await (noted(node, network, answering) if cfg.policy == "energy" else answering)

    async def plain(own: Learner, r: int, start: Vectors) -> Offer:
        state = await offloading.trained(node, cfg, own, start["state"], node.seed("fit", r), r)
        return await hand_in(node, r, packed(state, node.data.counts), cfg, start)

    node.serve(fit=train, adopt=adopt)
    serve_besides(node, cfg.chain, cfg.choice)
    if cfg.offload.to:
        offloading.serve(node, cfg, await learner, cloud=False)
    await node.until_done()


async def hand_in(
    node: Node, number: int, update: Weights, cfg: Handing | None = None, start: Vectors | None = None, *, alike: bool = False
) -> Offer:
    """Publish a client's update, for the server alone; each has a number of its own.

    The steps of `cfg` are done to it; then `start`, what the server sent, is needed. `alike`: clients count alike.
    """
    content: Content = update
    if cfg is not None and cfg.update_steps and start is not None:
        content = await sent_through(node, cfg.chain, number, update, start, alike=alike, deadline_s=cfg.deadline_s)
    return await node.publish(content, slot="update", version=number, listed=False)


def at_once(learner: Learner) -> asyncio.Future[Learner]:
    """A learner that need not be delivered."""
    own: asyncio.Future[Learner] = asyncio.get_running_loop().create_future()
    own.set_result(learner)
    return own
