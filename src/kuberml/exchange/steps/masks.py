"""The step `masks`: secure aggregation. The server learns the weighted sum of a cohort's updates, and of none alone.

K. Bonawitz et al., CCS 2017, with the double masks of its section 4.0.3; four questions around each fit:

    join      each client makes new keys and signs them                         (advertise keys)
    share     each shares its two secrets among all, in letters that pass here   (share keys)
    present   who is still there; then they fit and hand in masked numbers      (masked input)
    open      of who answered, shares of the own mask; of who is gone, of its pair masks   (unmasking)

A server that follows the protocol learns the sum over those who answered. One that lies to clients about who survived gets
nothing more while over half of the clients are honest and, of the c that tell it all, c < 2 threshold - clients. It can choose
a small cohort, or leave one client out of the next: against that only noise helps (`dp`). Fewer answers than the threshold,
or a client that lies about its shares: the round is lost, and nothing is learned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kuberml.core.errors import RemoteError
from kuberml.core.ids import NodeId
from kuberml.exchange.node import Node
from kuberml.exchange.steps import masks_client
from kuberml.exchange.steps.mask_letters import LETTER_BYTES
from kuberml.exchange.steps.mask_session import PUBLIC_BYTES, Bytes
from kuberml.exchange.steps.opening import Cohort, Shares, masks_left
from kuberml.exchange.steps.options import Masks
from kuberml.exchange.steps.step import Step, Updates
from kuberml.exchange.steps.update import Update
from kuberml.knowledge.kinds.sealed import Sealed
from kuberml.knowledge.want import Offer
from kuberml.learning.steps.masking import fixed, real, scale_for, unmasked
from kuberml.learning.steps.secrets import Words
from kuberml.learning.steps.shamir import SHARE_BYTES
from kuberml.learning.types import Array

FEWEST = 3
"""Clients that a sum must be of: of two, each would know the other's."""


class Masking(Step):
    """See the top of the file."""

    def __init__(self, options: Masks, deadline_s: float, *, alike: bool) -> None:
        """`deadline_s`: how long clients have for each answer; `alike`: all weigh the same."""
        self.options, self.deadline_s = options, deadline_s
        self.cap = 1 if alike else options.weight_cap
        self._cohort: Cohort | None = None

    def serve(self, node: Node) -> None:
        """The client's half that answers."""
        masks_client.serve(node)

    async def send(self, node: Node, number: int, update: Update) -> Update:
        """Weigh, make fixed-point numbers, mask them; the weight goes last, behind masks too."""
        share = min(update.weight, self.cap) / self.cap
        count = len(node.memory.masks.authors) if "masks" in node.memory else 1
        numbers = numbers_of(update.values_P, share, count, self.options.limit)
        return Update(np.zeros(0, np.float32), words_V=await masks_client.put_on(node, numbers))

    async def agree(self, node: Node, number: int, cohort: Sequence[NodeId]) -> Sequence[NodeId]:
        """Three questions; those who have answered them all, and are masked against each other."""
        self._cohort = None
        calls = node.memory.get("mask_calls", 0) + 1  # a restarted server calls anew: no session is used twice
        node.memory.update(mask_calls=calls)
        call = await _publish(node, "masks-call", calls, {"round": np.array([number], np.uint32)})
        came = await self._asked(node, cohort, "masks_join", call, {"keys": (PUBLIC_BYTES,), "signature": (64,)})
        if len(came) < FEWEST:
            return _lost(node, number, f"{len(came)} clients joined; {FEWEST} are needed")
        names, count = list(came), len(came)
        threshold = max(count // 2 + 1, math.ceil(self.options.threshold * count))
        listed: dict[str, Any] = {
            "authors": np.stack([np.frombuffer(bytes.fromhex(author), np.uint8) for author, _ in came.values()]),
            "keys": np.stack([arrays["keys"] for _, arrays in came.values()]),
            "signatures": np.stack([arrays["signature"] for _, arrays in came.values()]),
            "threshold": np.array([threshold], np.uint32),
        }
        roster = await _publish(node, "masks-roster", calls, listed)
        wrote = await self._asked(node, names, "masks_share", roster, {"letters": (count, LETTER_BYTES)})
        if len(wrote) < max(threshold, FEWEST):
            return _lost(node, number, f"{len(wrote)} clients shared their secrets; {threshold} are needed")
        letters = {names.index(name): arrays["letters"] for name, (_, arrays) in wrote.items()}
        keys = tuple(row.tobytes() for row in listed["keys"])
        self._cohort = Cohort(calls, names, keys, roster.signed.digest, threshold, letters)
        said = await _publish(node, "masks-present", calls, {"present": _marks(count, letters)})
        async for _ in node.ask(list(wrote), "masks_present", said, timeout_s=self.deadline_s):
            pass
        return list(wrote)

    async def combine(self, node: Node, number: int, updates: Updates) -> Updates:
        """Ask for what opens the sum, and open it."""
        cohort, self._cohort = self._cohort, None
        if cohort is None or len(updates) < max(cohort.threshold, FEWEST):
            _lost(node, number, f"{len(updates)} masked updates came; {cohort.threshold if cohort else FEWEST} are needed")
            return {}
        survived = sorted(cohort.names.index(name) for name in updates)
        shares = await self._shares(node, cohort, survived)
        try:
            left = masks_left(cohort, survived, shares)
        except RemoteError as error:
            _lost(node, number, str(error))
            return {}
        parts = [updates[cohort.names[place]].words_V for place in survived]
        total_V: Words = await node.compute(unmasked, parts, left)
        mean_P, weight = mean_of(total_V, len(cohort.names), self.options.limit)
        node.record("unmasked", number=number, clients=len(survived), dropped=len(cohort.letters) - len(survived))
        return {next(iter(updates)): Update(mean_P, weight * self.cap)} if weight > 0 else {}

    async def _shares(self, node: Node, cohort: Cohort, survived: Sequence[int]) -> Shares:
        """Of each client that answers: a share for everybody who was present."""
        count, found = len(cohort.names), Shares()
        marks = _marks(count, survived)
        for place in survived:
            letters = np.zeros((count, LETTER_BYTES), np.uint8)
            for sender, rows in cohort.letters.items():
                letters[sender] = rows[place]
            about = await _publish(node, f"masks-open-{place}", cohort.calls, {"survived": marks, "letters": letters})
            found.asked[place] = about
        sizes = {"shares": (count, SHARE_BYTES), "has": (count,)}
        pending = {place: self._one(node, cohort.names[place], about, sizes) for place, about in found.asked.items()}
        return await found.gathered(pending)

    async def _one(self, node: Node, name: NodeId, about: Offer, sizes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
        came = await self._asked(node, [name], "masks_open", about, sizes)
        return came[name][1] if name in came else None

    async def _asked(
        self, node: Node, names: Sequence[NodeId], question: str, about: Offer, sizes: Mapping[str, tuple[int, ...]]
    ) -> dict[NodeId, tuple[str, dict[str, Bytes]]]:
        """(author, arrays) of each that answers as it should, in order; an author counts once."""
        found: dict[NodeId, tuple[str, dict[str, Bytes]]] = {}
        authors: set[str] = set()
        async for offer in node.ask(names, question, about, timeout_s=self.deadline_s):
            content = await node.take(offer, Sealed)
            author = offer.signed.card.author
            if content is None or author in authors:
                continue
            if {name: array.shape for name, array in content.arrays.items()} != sizes:
                node.record("undelivered", card=offer.signed.digest, why=f"not an answer to {question}")
                continue
            authors.add(author)
            found[offer.holders[0]] = (author, content.arrays)
        return found


def numbers_of(values_P: Array, share: float, count: int, limit: float) -> Words:
    """Share x values and the share itself (0..1), fixed-point, uint32 [P + 1]; `count` of them add up without running over."""
    weighed_V = fixed(values_P.astype(np.float64) * share, scale_for(count, limit), limit)
    return np.concatenate([weighed_V, fixed(np.array([share]), scale_for(count, 1.0), 1.0)])


def mean_of(total_V: Words, count: int, limit: float) -> tuple[Array, float]:
    """(weighted mean float32 [P], sum of shares) in a sum of `numbers_of`; (zeros, 0) if nobody weighs anything."""
    weight = float(real(total_V[-1:], scale_for(count, 1.0))[0])
    sum_P = real(total_V[:-1], scale_for(count, limit))
    return (sum_P / weight).astype(np.float32) if weight > 0 else np.zeros(len(sum_P), np.float32), max(0.0, weight)


def _marks(count: int, places: Sequence[int] | Mapping[int, Any]) -> Bytes:
    marks = np.zeros(count, np.uint8)
    marks[list(places)] = 1
    return marks


def _lost(node: Node, number: int, why: str) -> list[NodeId]:
    node.record("round lost", number=number, why=why)
    return []


async def _publish(node: Node, slot: str, version: int, arrays: dict[str, Any]) -> Offer:
    return await node.publish(Sealed(arrays), slot=slot, version=version, listed=False)
