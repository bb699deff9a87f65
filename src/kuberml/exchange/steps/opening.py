"""How the server takes the masks off a sum: from shares of those who are there, the masks that did not cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kuberml.core.errors import RemoteError
from kuberml.core.ids import NodeId
from kuberml.exchange.steps.mask_letters import pair_seed
from kuberml.exchange.steps.mask_session import Bytes, commitment
from kuberml.knowledge.want import Offer
from kuberml.learning.steps.masking import Mask, public_key
from kuberml.learning.steps.shamir import opened


@dataclass(frozen=True)
class Cohort:
    """Whom a round's masks were agreed with. Places are those on the roster.

    Attributes:
        calls: which call this was.
        names, keys: of everybody on the roster.
        roster: its digest.
        threshold: how many shares open a secret.
        letters: by sender's place, its letters to everybody; whoever sent them is masked against.
    """

    calls: int
    names: list[NodeId]
    keys: tuple[bytes, ...]
    roster: str
    threshold: int
    letters: dict[int, Bytes]


@dataclass
class Shares:
    """What clients gave: by giver's place, arrays "shares" [clients, 32] and "has" [clients]."""

    asked: dict[int, Offer] = field(default_factory=dict)
    given: dict[int, Mapping[str, Bytes]] = field(default_factory=dict)

    async def gathered(self, pending: Mapping[int, Coroutine[Any, Any, Mapping[str, Bytes] | None]]) -> Shares:
        """Wait for all answers; who does not give any is left out."""
        came = await asyncio.gather(*pending.values())
        self.given = {place: arrays for place, arrays in zip(pending, came, strict=True) if arrays is not None}
        return self

    def of(self, place: int, threshold: int) -> dict[int, bytes]:
        """Shares of one client's secret by their number, as many as open it.

        Raises:
            RemoteError: there are fewer.
        """
        there = [giver for giver, arrays in self.given.items() if arrays["has"][place]][:threshold]
        if len(there) < threshold:
            raise RemoteError(f"{len(there)} shares of client {place}'s secret came; {threshold} are needed")
        return {giver + 1: self.given[giver]["shares"][place].tobytes() for giver in there}


def masks_left(cohort: Cohort, survived: Sequence[int], shares: Shares) -> list[Mask]:
    """The masks on the sum of the survivors' numbers, as they were put on.

    Raises:
        RemoteError: too few shares, or shares of another secret than the client committed to.
    """
    found = []
    for place in sorted(cohort.letters):
        secret = opened(shares.of(place, cohort.threshold))
        keys = cohort.keys[place]
        if place in survived:
            _same(place, commitment(secret), keys[64:])
            found.append(Mask(secret, True))
        else:
            _same(place, public_key(secret), keys[32:64])
            pairs = [(other, pair_seed(secret, cohort.keys[other], cohort.roster)) for other in survived]
            found += [Mask(seed, place > other) for other, seed in pairs]
    return found


def _same(place: int, found: bytes, said: bytes) -> None:
    if found != said:
        raise RemoteError(f"the shares of client {place}'s secret open another one: somebody gave a wrong share")
