"""A live hub as the place where a member meets others (see `worlds.member.meeting`)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Self

from kuberml.core.errors import ConfigError, RemoteError, Unreachable
from kuberml.core.ids import NodeId
from kuberml.exchange import wire
from kuberml.exchange.delivery.progress import Watch
from kuberml.knowledge.card import Card
from kuberml.knowledge.signing import Keys
from kuberml.knowledge.want import Offer
from kuberml.worlds.alone import alone
from kuberml.worlds.live.entry import advice, realm_named, tls_in, trust_for
from kuberml.worlds.live.names import endpoints
from kuberml.worlds.live.world import LiveWorld
from kuberml.worlds.member.telling import telling

PATIENCE_S = 30.0
"""How long a hub that does not answer is waited for, when joining and when publishing."""

KNOWN_S = 5.0
"""The same when joining a hub that was met before: what is here can go on without it."""

SLOWEST_BYTES_S = 1_000_000
"""A package is handed over at least this fast, or a member does not wait for it any longer."""

JOINED = "meeting/joined"

log = logging.getLogger("kuberml")


class LiveMeeting:
    """One member's stay at a hub; made by `enter`."""

    def __init__(self, world: LiveWorld, staying: contextlib.AsyncExitStack) -> None:
        self._world, self._staying = world, staying
        self.clock, self.transport, self.compute, self.store = world.clock, world.transport, world.compute, world.store
        self.hub, self.recorder = world.hub, telling(world.recorder(), world.transport.node)
        self.watch: Callable[[Card], Watch] | None = world.recorder().watching

    @classmethod
    async def enter(cls, address: str, node: NodeId, keys: Keys, vault: Path, role: str) -> Self:
        """Join a hub. Where it is away now, but this vault has met it before, what is here goes on without it.

        Raises:
            ConfigError: an address that cannot be, or a vault that cannot be used.
            RemoteError: the hub does not let this member in.
            Unreachable: no hub answers at the address.
        """
        near = all(endpoint.host in ("127.0.0.1", "localhost", "::1") for endpoint in endpoints(address))
        async with contextlib.AsyncExitStack() as staying:
            staying.enter_context(_own(vault))
            realm, http = realm_named(), "127.0.0.1:0" if near else None
            opening = LiveWorld.open(
                address, node=node, role=role, keys=keys, vault=vault, realm=realm, trust=trust_for(realm), tls=tls_in(),
                serve_http=http,
            )  # fmt: skip
            world = await staying.enter_async_context(opening)
            was_here = JOINED in world.store.memory()
            try:
                await world.enter(KNOWN_S if was_here else PATIENCE_S)
            except Unreachable as error:
                if not was_here:
                    raise Unreachable(f"{address}: {error}; {advice(address, tls_in())}") from error
                log.warning("%s: the hub at %s is away; what is here goes on without it", node, address)
            else:
                world.store.remember({JOINED: b"\x01"})
            return cls(world, staying.pop_all())
        raise AssertionError

    async def handed_over(self, offer: Offer, keep: int) -> None:
        """See `Meeting`. A hub that keeps no copy of it is no error: it can be had here as long as this member stays."""
        card = offer.signed
        patience_s = PATIENCE_S + card.card.size_bytes / SLOWEST_BYTES_S
        try:
            async with asyncio.timeout(patience_s):
                await self._kept(offer, keep, patience_s)
        except (TimeoutError, Unreachable):
            log.warning("%s is published here, and the hub has no copy yet: it gets one when it is back", card.digest[:12])

    async def _kept(self, offer: Offer, keep: int, patience_s: float) -> None:
        while True:
            try:
                await self.transport.ask(self.hub, "keep", offer.signed.digest.encode(), timeout_s=patience_s)
                return
            except Unreachable:
                await asyncio.sleep(0.2)  # it has gone away meanwhile; when it is back, `LiveWorld` tells it again what is here
            except RemoteError as error:
                said = wire.write(wire.Announcement(offer.signed, self.transport.node, keep))
                await self.transport.ask(self.hub, "announce", said, timeout_s=patience_s)  # raises what is wrong with it
                log.warning("the hub keeps no copy of %s: %s", offer.signed.digest[:12], error)
                return

    async def close(self) -> None:
        """See `Meeting`."""
        await self._staying.aclose()


def _own(vault: Path) -> contextlib.AbstractContextManager[None]:
    """The vault as one's own: the same member runs once at a time."""
    try:
        vault.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the vault {vault}: {error}") from error
    return alone(vault, busy="a member with this vault is running already; give this one another name (`--name`)")
