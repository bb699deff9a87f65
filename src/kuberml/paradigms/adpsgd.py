"""AD-PSGD: no server and no rounds; each node trains, and averages its model with one neighbour after the other, in pairs.

X. Lian, W. Zhang, C. Zhang, J. Liu: Asynchronous Decentralized Parallel Stochastic Gradient Descent. ICML 2018, algorithm 1:
the gradient is of the model as it was before, x_i and x_j both become (x_i + x_j) / 2, then x_i loses lr * gradient; here with
local steps. `corrected`: the step is divided by the rate over the mean rate (averaged too), since the fast decide otherwise.

Who is in an exchange hands a request back, which means "later": nobody waits for who waits, so no circle can lock. An exchange
has a number that both sides remember: it is asked for until it is answered, and counts once, also where one of them crashes.
"""

from __future__ import annotations

import asyncio

import msgspec
import numpy as np

from kuberml.core.errors import RemoteError
from kuberml.core.ids import NodeId
from kuberml.core.ranges import Count, NonNegative
from kuberml.core.rng import seed_of
from kuberml.core.units import NS
from kuberml.exchange.node import Node, OverBudget
from kuberml.exchange.states import Vectors, take_vectors
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.want import Offer
from kuberml.learning.jobs import fit, init_state
from kuberml.learning.mixing import step_factor, symmetric
from kuberml.learning.predictor import Network
from kuberml.learning.types import Array
from kuberml.paradigms.options import Unpaced

COMMON_MODEL = True
"""States are averaged or sent back: everybody has the same architecture."""


class Config(Unpaced, frozen=True, kw_only=True):
    """Options. `tries`: neighbours asked in an iteration, and times that a silent one is asked again, after longer pauses."""

    corrected: bool = False
    tries: Count = 4
    pause_s: NonNegative = 0.1
    patience_s: NonNegative = 30.0


async def peer(node: Node, cfg: Config) -> None:
    """Train and average, over and over. Everybody starts from the same point; rates are iterations a second."""
    start = seed_of(node.place.seed, "adpsgd", "init")
    node.memory.setdefault(round=0, state=await node.compute(init_state, node.learner, start), began_ns=node.clock.now_ns(),
                           rate=0.0, mean_rate=0.0, number=0, partner="", answered={}, said=None)  # fmt: skip
    try:
        await Pairs(node, cfg).run()
    except OverBudget as error:
        node.record("spent", why=str(error))


class Pairs:
    """One node's exchanges, one at a time."""

    def __init__(self, node: Node, cfg: Config) -> None:
        self._node, self._memory, self._cfg = node, node.memory, cfg
        self._turn, self._answering = asyncio.Lock(), ("", 0)  # one exchange at a time: who asked for it, and its number

    async def run(self) -> None:
        """First what a crash interrupted: the answer that was promised, the exchange that was asked for. Then iterate."""
        node, memory, cfg = self._node, self._memory, self._cfg
        if memory.said is not None:
            await self._say()
        async with self._turn:
            node.serve(average=self._answer)
            if memory.partner:
                await self._ask_partner()
        while cfg.goes_on(memory.round, memory.began_ns, node.clock.now_ns()):
            slow = step_factor(memory.rate / memory.mean_rate) if cfg.corrected and memory.mean_rate > 0 else 1.0
            plan, before = msgspec.structs.replace(cfg.plan, lr=cfg.lr * slow), memory.state
            after = await node.compute(fit, node.learner, before, node.data.train, plan, node.seed("fit", memory.round))
            await self._average(after - before)

    async def _average(self, change: Array) -> None:
        """Find a neighbour that has time, average with it, and take the step; without one, take the step."""
        node, memory, round_ = self._node, self._memory, self._memory.round
        chance = node.rng("pairs", round_)
        for attempt in range(self._cfg.tries if node.neighbours else 0):
            async with self._turn:
                memory.update(partner=str(chance.choice(node.neighbours)), number=memory.number + 1, change=change)
                await self._ask_partner()
            if memory.round > round_:
                return
            await node.sleep(float(chance.uniform(0, self._cfg.pause_s * 2**attempt)))
        self._step(change, None, None)

    async def _ask_partner(self) -> None:
        """Bring the exchange that is in memory to its end: averaged, put off ("later"), or given up."""
        node, memory, cfg = self._node, self._memory, self._cfg
        mine = await node.publish(Weights(self._own), slot="mine", version=memory.number, listed=False)
        for attempt in range(cfg.tries):
            async for answer in node.ask([memory.partner], "average", mine, timeout_s=cfg.patience_s):
                if answer.signed.digest == mine.signed.digest:
                    return memory.update(partner="")
                if (theirs := await take_vectors(node, answer, self._own)) is not None:
                    return self._step(memory.change, theirs, answer)
            await node.sleep(cfg.pause_s * 2**attempt)
        node.record("gave up", why=f"{memory.partner} does not answer exchange {memory.number}; it may have averaged alone")
        return self._step(memory.change, None, None)

    def _step(self, change: Array, theirs: Vectors | None, answer: Offer | None) -> None:
        """Average and step in one transaction."""
        memory, rounds = self._memory, self._memory.round + 1
        mean = symmetric(self._own, theirs or self._own)
        rate = rounds * NS / max(1, self._node.clock.now_ns() - memory.began_ns)
        mean_rate = float(mean["rate"][0]) + rate - memory.rate
        memory.update(round=rounds, state=mean["state"] + change, rate=rate, mean_rate=mean_rate, partner="")
        served = Network(self._node.learner, mean["state"] if answer else memory.state)
        self._node.deploy(served, learned=[answer.signed] if answer else [])

    async def _answer(self, asker: NodeId, offer: Offer | None) -> Offer | None:
        """The other side: average with who asks, and answer with what was here before."""
        node, memory = self._node, self._memory
        number, before = (offer.signed.card.version if offer else -1), memory.answered.get(asker, 0)
        if offer is None or asker not in node.neighbours or number < before:
            raise RemoteError(f"{node.id}: {asker} is no neighbour, or its exchange {number} is over")
        if number == before or self._answering == (asker, number):
            answer = node.own(f"for {asker}")
            if answer is None or answer.signed.card.version != number:
                raise RemoteError(f"{node.id} is at the exchange {number} of {asker}")
            return answer
        if self._turn.locked():
            return offer
        async with self._turn:
            self._answering = (asker, number)
            theirs = await take_vectors(node, offer, self._own)
            self._answering = ("", 0)
            if theirs is None:
                raise RemoteError(f"the model of {asker} did not come to {node.id}, or is not like that")
            mean = symmetric(self._own, theirs)
            answered, said = {**memory.answered, asker: number}, (asker, self._own)
            memory.update(state=mean["state"], mean_rate=float(mean["rate"][0]), answered=answered, said=said)
            node.deploy(Network(node.learner, memory.state), [offer.signed])
            return await self._say()

    async def _say(self) -> Offer:
        """Publish what this node had before the last exchange that it answered. Said twice, it is the same package."""
        asker, said = self._memory.said
        return await self._node.publish(Weights(said), slot=f"for {asker}", version=self._memory.answered[asker], listed=False)

    @property
    def _own(self) -> Vectors:
        """What is averaged: the model, and the mean rate."""
        return {"state": self._memory.state, "rate": np.array([self._memory.mean_rate])}
