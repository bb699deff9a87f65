"""What a server gathers in a round: the weighted mean of what its cohort hands in, through the steps that are set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.core.ids import NodeId
from kuberml.exchange.memory import Memory
from kuberml.exchange.node import Node, OverBudget
from kuberml.exchange.policies.choosing import choosing
from kuberml.exchange.policies.options import Choice
from kuberml.exchange.states import Vectors, take_vectors
from kuberml.exchange.steps.chain import chain
from kuberml.exchange.steps.masks import Masking
from kuberml.exchange.steps.options import Steps
from kuberml.exchange.steps.step import Step, Updates
from kuberml.exchange.steps.update import Update, split, unpacked
from kuberml.knowledge.card import SignedCard
from kuberml.knowledge.kinds.weights import Weights, base_of
from kuberml.knowledge.want import Offer
from kuberml.learning.averaging import Mean
from kuberml.learning.steps.privacy import Sampling
from kuberml.learning.types import Array


class Averaging:
    """What a server sends, and what it makes of a round; here the plain weighted mean. Others (FedAdam, SCAFFOLD) override."""

    sends: Mapping[str, str] = MappingProxyType({"state": "weights"})
    """Which entries of the server's memory travel, by the name of the tensor that carries each."""

    def start(self, weights_P: Array) -> dict[str, Any]:
        """What the server remembers from the beginning, besides its weights."""
        return {}

    def weigh(self, samples: int) -> float:
        """The weight of a client that has so many samples, 1 or more."""
        return samples

    async def take(self, came: Vectors) -> None:
        """Look at what one client sent, in the order of the cohort."""

    async def step(self, memory: Memory, means: Vectors, answers: int, clients: int) -> dict[str, Any]:
        """What to remember after a round: `means` are over the clients that answered, of all that are present."""
        return {"weights": means["state"]}


class Gathering:
    """Without steps."""

    def __init__(self, node: Node, deadline_s: float, server: Averaging, choice: Choice) -> None:
        self.node, self.deadline_s, self.server = node, deadline_s, server
        self.choice, self.choosing = choice, choosing(node, choice)

    async def draw(self, number: int, clients: Sequence[NodeId]) -> list[NodeId]:
        """Who takes part, of those who are present."""
        return await self.choosing.choose(number, clients, max(1, round(self.choice.share * len(clients))))

    async def collect(
        self, number: int, cohort: Sequence[NodeId], base: Offer, sent: Vectors
    ) -> tuple[Vectors, list[SignedCard]]:
        """(means by name, the updates that they are of); what was `sent`, and none, where nobody answered."""
        means, cards = {name: Mean() for name in sent}, list[SignedCard]()
        async for offer in self.node.ask(cohort, "fit", base, timeout_s=self.deadline_s):
            came = await take_vectors(self.node, offer, sent)
            samples = sum(offer.signed.card.labels.values())
            if came is not None and samples:
                cards.append(offer.signed)
                await self.server.take(came)
                for name, mean in means.items():
                    mean.add(came[name], weight=self.server.weigh(samples))
        return {name: mean.result(sent[name]) for name, mean in means.items()}, cards

    def remembers(self) -> dict[str, Any]:
        """What is to be committed with the round."""
        return {}

    def close(self) -> None:
        """The last round is over."""


class Stepped(Gathering):
    """With them."""

    def __init__(self, node: Node, deadline_s: float, server: Averaging, choice: Choice, steps: Steps) -> None:
        super().__init__(node, deadline_s, server, choice)
        sampling: Sampling = choice.policy if choice.policy in ("uniform", "poisson") else "all"
        self.steps, self.links = steps, chain(steps, deadline_s=deadline_s, sampling=sampling, share=choice.share)

    async def draw(self, number: int, clients: Sequence[NodeId]) -> list[NodeId]:
        """Every step agrees with those who were drawn; who is in all."""
        cohort = await super().draw(number, clients)
        left = list(cohort)
        for link in self.links:
            there = set(await link.agree(self.node, number, cohort)) if left else set()
            left = [name for name in left if name in there]
        return left

    async def collect(
        self, number: int, cohort: Sequence[NodeId], base: Offer, sent: Vectors
    ) -> tuple[Vectors, list[SignedCard]]:
        """As without steps; a round that a step has lost is of none."""
        updates, cards = Updates(), list[SignedCard]()
        async for offer in self.node.ask(cohort, "fit", base, timeout_s=self.deadline_s):
            update = await taken(self.node, offer, sent, sent["state"], self.steps, self.links)
            if update is None:
                continue
            if update.words_V is None:
                samples = sum(offer.signed.card.labels.values())
                update = Update(update.values_P, 1.0 if self.steps.alike else self.server.weigh(samples))
                await self.server.take(split(update.values_P, sent))
            updates[offer.holders[0]] = update
            cards.append(offer.signed)
        for link in sorted(
            self.links, key=lambda one: not isinstance(one, Masking)
        ):  # nothing can be read before masks are off
            updates = await link.combine(self.node, number, updates)
        if not updates:
            return sent, []
        mean = Mean()
        for update in updates.values():
            mean.add(update.values_P, update.weight)
        return split(mean.result(next(iter(updates.values())).values_P), sent), cards

    def remembers(self) -> dict[str, Any]:
        """What the steps do."""
        return {name: item for link in self.links for name, item in link.remembers().items()}


async def taken(node: Node, offer: Offer, like: Vectors, base_P: Array, steps: Steps, links: Sequence[Step]) -> Update | None:
    """One client's update, through the server's half of each step; None, and recorded, where it is not what it must be.

    Args:
        node: the server.
        offer: what the client handed in.
        like: the vectors that it hands in, by name: of their length.
        base_P: the weights that it was sent.
        steps, links: the chain and its steps.

    Raises:
        OverBudget: the node may receive no more.
    """
    masked = "masks" in steps.names
    try:
        content = await node.fetch(offer)
        if not steps.silent and not offer.signed.card.labels:
            raise RemoteError("an update of no samples")
        count = sum(vector.size for vector in like.values()) + masked
        update = unpacked(content, base_of(Weights({"state": base_P})), count, sealed=masked)
    except OverBudget:
        raise
    except (RemoteError, Unreachable) as error:
        node.record("undelivered", card=offer.signed.digest, why=str(error))
        return None
    for link in links:
        update = await link.open(node, update)
    return update


class Taking:
    """A server that takes in updates one by one, without steps."""

    def __init__(self, node: Node) -> None:
        self.node = node

    async def take(self, offer: Offer, like: Vectors, base_P: Array) -> Vectors | None:
        """The vectors that `like` names; None, and recorded, where they do not arrive or have no samples behind them."""
        came = await take_vectors(self.node, offer, like)
        return came if offer.signed.card.labels else None


class SteppedTaking(Taking):
    """With them."""

    def __init__(self, node: Node, steps: Steps, links: Sequence[Step]) -> None:
        super().__init__(node)
        self.steps, self.links = steps, links

    async def take(self, offer: Offer, like: Vectors, base_P: Array) -> Vectors | None:
        """The same through the steps."""
        update = await taken(self.node, offer, like, base_P, self.steps, self.links)
        return None if update is None else split(update.values_P, like)


def taker(node: Node, deadline_s: float, steps: Steps) -> Taking:
    """What takes in updates, through the steps that are set."""
    return SteppedTaking(node, steps, chain(steps, deadline_s=deadline_s)) if steps else Taking(node)
