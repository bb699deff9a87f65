"""A gatherer: whoever keeps packages anyway adds them up, so that a receiver fetches one instead of one from everybody.

It judges nothing and knows no data: who receives, tries. What it publishes is a package like any: the exact sum with the
manifest of its contributions (so it can be added, subtracted and taken apart again), and the head that the sum makes, for those
who only want to use it. Single packets stay on offer for whoever refuses the sum. Packets whose authors set terms are left out:
a sum could not keep them all.
"""

from __future__ import annotations

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.core.ids import Digest
from kuberml.core.tasks import each
from kuberml.exchange import heads, wire
from kuberml.exchange.node import Node
from kuberml.knowledge.card import Terms
from kuberml.knowledge.contributions import Contributions, Refused, apply, as_merge, plan
from kuberml.knowledge.kinds.statistics import Statistics
from kuberml.knowledge.manifest import single
from kuberml.knowledge.want import Offer, Want
from kuberml.learning.jobs import solve_head

AT_ONCE = 16
"""Packets on their way: one after the other, a thousand phones' would take five minutes of waiting for single links."""


class Gatherer:
    """Collects single packets on one basis, and publishes what they come to."""

    def __init__(self, node: Node, basis: Digest, *, ridge: float | None = None) -> None:
        """`ridge`: of the head; see `knowledge.ridge.solve`."""
        self._node, self._basis, self._ridge = node, basis, ridge
        self.made_of = Contributions()
        self._total: Statistics | None = None
        self._packets: dict[Digest, Statistics] = {}  # by content: of what the sum is made of
        self._parents: dict[tuple[str, str], Digest] = {}  # card, by author and slot
        self._settled: set[Digest] = set()
        self._since = 0

    async def run(self, *, learners: str, every_s: float, patience_s: float) -> None:
        """Look, and publish when everybody of a role that is present has sent something, or what is new has waited for long.

        The first that is new is what is waited with: where something comes every minute the sum would else never be out.
        """
        version, new_ms = 0, -1
        while not self._node.done:
            if await self.look() and new_ms < 0:
                new_ms = self._node.now_ms
            complete = len(self.made_of.entries) >= len(self._node.peers(learners))
            if new_ms >= 0 and (complete or self._node.now_ms - new_ms >= 1000 * patience_s):
                await self.publish(version)
                version, new_ms = version + 1, -1
            await self._node.sleep(every_s)

    async def look(self) -> bool:
        """Fetch and add the packets that are new. Whether there were any."""
        before = self.made_of
        want = Want(self._node.task, kinds=("statistics",), bases=(self._basis,), limit=wire.OFFERED)
        pages, is_more = self._node.pages(self._since), True
        while is_more:
            page = await self._node.find_page(want, self._since)
            self._since = page.upto
            await each([offer for offer in page.offers if self._is_wanted(offer)], self._add, at_once=AT_ONCE)
            is_here = self._since == page.upto  # else the next look tries again what did not arrive
            is_more = page.is_full and is_here and pages.lead_on(page.upto)
        return self.made_of != before

    async def publish(self, version: int) -> None:
        """The sum and its head, in place of the version before."""
        assert self._total is not None
        parents = tuple(sorted(self._parents.values()))
        merged = await self._node.publish(as_merge(self.made_of, self._total), slot="merge", version=version, parents=parents)
        head = await self._node.compute(solve_head, self._total, self._ridge)
        known = heads.packed(head, self._total.counts)
        await self._node.publish(known, slot="head", version=version, parents=(*parents, merged.signed.digest))

    def _is_wanted(self, offer: Offer) -> bool:
        card = offer.signed.card
        return offer.signed.digest not in self._settled and not card.parents and card.terms == Terms()

    async def _add(self, offer: Offer) -> None:
        card = offer.signed.card
        try:
            packet = await self._node.fetch(offer)
            packets = {**self._packets, card.content: packet}
            step = plan(self.made_of, (single(card),), {name: frozenset({name}) for name in packets})
            if isinstance(step, Refused):
                raise RemoteError(step.reason)
            self._total = apply(step, self._total, packet, packets.__getitem__)
        except Unreachable as error:
            self._node.record("undelivered", card=offer.signed.digest, why=str(error))
            self._since = 0
            return  # it stays on offer: the next look tries again
        except RemoteError as error:
            self._node.record("refused", card=offer.signed.digest, author=card.author, why=str(error))
        else:
            self.made_of, self._parents[card.author, card.slot] = step.after, offer.signed.digest
            self._packets = {name: packets[name] for name in step.after.contents}  # what was replaced is not needed again
        self._settled.add(offer.signed.digest)
