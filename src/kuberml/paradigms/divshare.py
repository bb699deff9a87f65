"""DivShare's way: models travel in fragments, each to a few nodes drawn at random, while the next training goes on.

S. Biswas, A.-M. Kermarrec, A. Marouani, R. Pires, R. Sharma, M. de Vos: Boosting Asynchronous Decentralized Learning with Model
Fragmentation. WWW 2025, arXiv 2410.12918 (2024), algorithms 1-3. In each iteration a node first averages its model, weight by
weight, with the fragments that came in since, x[c] <- (x[c] + sum of those received) / (received + 1); it trains; what is still
unsent is dropped and the new fragments go out in a random order, one after the other, each to `receivers` nodes.

Written after the paper's description; its code was not read. Fragments that have come in are not kept over a crash.
"""

from __future__ import annotations

import asyncio
import math

import numpy as np

from kuberml.core.errors import RemoteError
from kuberml.core.ids import NodeId
from kuberml.core.ranges import Count, NonNegative, Whole
from kuberml.core.rng import seed_of
from kuberml.core.units import NS
from kuberml.exchange.node import Node, OverBudget
from kuberml.knowledge.card import SignedCard
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.want import Offer
from kuberml.learning.jobs import fit, init_state
from kuberml.learning.predictor import Network
from kuberml.learning.types import Array
from kuberml.paradigms.options import Unpaced

COMMON_MODEL = True
"""States are averaged or sent back: everybody has the same architecture."""


class Config(Unpaced, frozen=True, kw_only=True):
    """Options.

    Attributes:
        fragments: parts of a model, of equal length but for one weight; the paper's 1 / omega.
        receivers: nodes that one fragment goes to; 0: log2 of the number of nodes, as in the paper.
        iteration_s: of one iteration, at least: where a model trains in no time its fragments would never go out.
        patience_s: with a node that takes a fragment.
    """

    fragments: Count = 10
    receivers: Whole = 0
    iteration_s: NonNegative = 0.0
    patience_s: NonNegative = 60.0


Inbox = dict[tuple[NodeId, int], tuple[Array, SignedCard]]
"""The newest fragment of each sender and place: a newer one replaces it."""


async def peer(node: Node, cfg: Config) -> None:
    """Average what came, train, send. Everybody starts from the same point. A fragment of something else is a RemoteError."""
    start = seed_of(node.place.seed, "divshare", "init")
    began = {"round": 0, "state": await node.compute(init_state, node.learner, start), "began_ns": node.clock.now_ns()}
    node.memory.setdefault(**began)
    inbox: Inbox = {}

    async def keep(asker: NodeId, offer: Offer | None) -> None:
        if offer is None:
            raise RemoteError("a fragment is needed, and none was sent")
        content, place = await node.fetch(offer), fragment_of(offer.signed.card.slot)
        part = content.tensors.get("state") if isinstance(content, Weights) else None
        length = len(node.memory.state)
        if part is None or place >= cfg.fragments or part.shape != (len(range(length)[cut(place, length, cfg)]),):
            raise RemoteError(f"no fragment of a model like that of {node.id} is in {offer.signed.card.slot!r} of {asker}")
        inbox[asker, place] = part, offer.signed

    node.serve(fragment=keep)
    try:
        await iterate(node, cfg, inbox)
    except OverBudget as error:
        node.record("spent", why=str(error))


async def iterate(node: Node, cfg: Config, inbox: Inbox) -> None:
    """The iterations; sending goes on beside them."""
    sending: asyncio.Task[None] | None = None
    try:
        while cfg.goes_on(node.memory.round, node.memory.began_ns, node.clock.now_ns()):
            r, began_ns, mixed = node.memory.round, node.clock.now_ns(), mix(node, cfg, inbox)
            state = await node.compute(fit, node.learner, mixed, node.data.train, cfg.plan, node.seed("fit", r))
            await stop(sending)
            node.memory.update(round=r + 1, state=state)
            sending = asyncio.create_task(send(node, cfg, state, r))
            await node.sleep(max(0.0, cfg.iteration_s - (node.clock.now_ns() - began_ns) / NS))
        if sending is not None:
            await sending
        mix(node, cfg, inbox)
    finally:
        await stop(sending)


def mix(node: Node, cfg: Config, inbox: Inbox) -> Array:
    """Average the model with what came in, and serve that."""
    mixed = averaged(node.memory.state, {key: part for key, (part, _) in inbox.items()}, cfg)
    node.deploy(Network(node.learner, mixed), learned=[card for _, card in inbox.values()])
    inbox.clear()
    return mixed


async def send(node: Node, cfg: Config, state: Array, r: int) -> None:
    """One fragment after the other, each to nodes of its own."""
    stream = node.rng("send", r)
    for place in stream.permutation(cfg.fragments).tolist():
        others = node.peers("peer")
        count = min(len(others), cfg.receivers or math.ceil(math.log2(len(others) + 1)))
        to = sorted(stream.choice(others, count, replace=False).tolist()) if count else []
        part = Weights({"state": state[cut(place, len(state), cfg)]})
        offer = await node.publish(part, slot=f"fragment {place}", version=r, listed=False)
        async for _ in node.ask(to, "fragment", offer, timeout_s=cfg.patience_s):
            pass


async def stop(sending: asyncio.Task[None] | None) -> None:
    """Drop what is still unsent. Raises what went wrong with the rest, for instance OverBudget."""
    if sending is not None:
        sending.cancel()
        await asyncio.wait([sending])
        if not sending.cancelled():
            sending.result()


def cut(place: int, length: int, cfg: Config) -> slice:
    """Where a fragment lies in a model of `length` weights: every n-th weight, so that each holds some of every layer."""
    return slice(place, length, cfg.fragments)


def fragment_of(slot: str) -> int:
    """The place of a fragment, from the name of its slot. Raises RemoteError: there is none."""
    word, _, number = slot.partition(" ")
    if word != "fragment" or not number.isdecimal() or len(number) > 9:
        raise RemoteError(f"the slot {slot!r:.40} names no fragment")
    return int(number)


def averaged(state_P: Array, came: dict[tuple[NodeId, int], Array], cfg: Config) -> Array:
    """Every weight averaged with the received ones of its place, in float64, in the order of the senders."""
    sum_P, count_P = state_P.astype(np.float64), np.ones(len(state_P))
    for (_, place), part in sorted(came.items()):
        sum_P[cut(place, len(state_P), cfg)] += part
        count_P[cut(place, len(state_P), cfg)] += 1
    mean_P: Array = (sum_P / count_P).astype(np.float32)
    return mean_P
