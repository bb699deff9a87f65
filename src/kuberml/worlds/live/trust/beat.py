"""The beat: once a second the hub says which roll stands, so that every node knows soon what was revoked, and that it knows.

A beat is small and names the roll by serial and digest; one right after a change carries the roll itself, if it is small. A
node that hears of a roll that it does not have asks for it, nodes of a big realm not all at once. A node that hears no beats
has a roll that grows stale (`RollTrust.max_stale_s`). Beats are News of the hub's key: nobody else's count, old ones do not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import msgspec

from kuberml.core import canonical
from kuberml.core.errors import KuberError
from kuberml.core.ids import Digest, NodeId, digest_of
from kuberml.core.seam import Transport
from kuberml.exchange import wire
from kuberml.worlds.live.trust.policy import Trust
from kuberml.worlds.live.trust.realm import Realm
from kuberml.worlds.live.trust.roll import read_roll

TOPIC = "roll"
BEAT_S, LOOK_S = 1.0, 0.5
CARRIED_MAX_BYTES = 32 * 1024
SPREAD_MS = 1500
"""Over how long the questions of many nodes after a change are spread."""
ASK_TIMEOUT_S = 5.0

log = logging.getLogger("kuberml.live")


@contextlib.asynccontextmanager
async def running(service: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """A service that runs until the end of the block. If it fails before, its error is raised there: never silently."""
    task = asyncio.ensure_future(service)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Beat(msgspec.Struct, frozen=True):
    """What stands now. `roll` is b"", or the signed roll itself."""

    serial: int
    digest: Digest
    roll: bytes = b""


class RollAsk(msgspec.Struct, frozen=True):
    """Request `roll`. Of a node: the roll that stands, please; of an owner: here is a newer one."""

    offered: bytes = b""


class RollAnswer(msgspec.Struct, frozen=True):
    """The signed roll that stands."""

    roll: bytes


class Vouch(msgspec.Struct, frozen=True):
    """Request `vouch`, where the policy is "known": a member lets a key in, with at most its own rights."""

    key: str
    name: NodeId


class RollService:
    """The hub's half: serves `roll`, watches the folder and beats."""

    def __init__(self, transport: Transport, realm: Realm) -> None:
        self._transport, self._realm = transport, realm
        transport.serve("roll", self._answer)
        transport.serve("vouch", self._vouch)

    async def run(self) -> None:
        """Look and beat until cancelled."""
        looks = 0
        while True:
            changed = self._realm.refresh()
            if changed or looks % round(BEAT_S / LOOK_S) == 0:
                await self.beat(carry=changed)
            looks += 1
            await asyncio.sleep(LOOK_S)

    async def beat(self, *, carry: bool) -> None:
        """Say which roll stands, and with `carry` also what is on it."""
        signed = self._realm.signed
        data = canonical.encode(signed) if carry else b""
        carried = data if len(data) <= CARRIED_MAX_BYTES else b""
        await self._transport.announce(TOPIC, wire.write(Beat(signed.roll.serial, signed.roll.digest, carried)))

    async def _answer(self, asker: NodeId, body: bytes) -> bytes:
        asked = wire.read(body, RollAsk)
        if asked.offered and self._realm.offer(read_roll(asked.offered)):
            log.info("%s brought roll %d", asker, self._realm.signed.roll.serial)
            await self.beat(carry=True)
        return wire.write(RollAnswer(canonical.encode(self._realm.signed)))

    async def _vouch(self, asker: NodeId, body: bytes) -> bytes:
        vouch = wire.read(body, Vouch)
        self._realm.vouch(asker, vouch.key, vouch.name)
        await self.beat(carry=True)
        return b""


class RollFollower:
    """A node's half: hears beats and keeps its trust fresh."""

    def __init__(self, transport: Transport, trust: Trust, *, hub: NodeId) -> None:
        self._transport, self._trust, self._hub = transport, trust, hub
        self._wait_s = int(digest_of(transport.node.encode())[:8], 16) % SPREAD_MS / 1000

    async def run(self) -> None:
        """Follow until cancelled."""
        async for sender, body in self._transport.subscribe(TOPIC, limit=16):
            if sender == self._hub:
                try:
                    await self.hear(wire.read(body, Beat))
                except KuberError as error:
                    log.warning("the roll of %s is not taken: %s", self._hub, error)

    async def hear(self, beat: Beat) -> None:
        """One beat. Raises RemoteError: its roll is not to be taken; Unreachable: it could not be asked for."""
        if beat.roll:
            self._trust.take(read_roll(beat.roll))
        elif not self._trust.heard(beat.serial, beat.digest):
            await asyncio.sleep(self._wait_s)
            await self.ask()

    async def ask(self) -> None:
        """Ask the hub for its roll. Raises RemoteError: not to be taken; Unreachable: no answer."""
        body = await self._transport.ask(self._hub, "roll", wire.write(RollAsk()), timeout_s=ASK_TIMEOUT_S)
        self._trust.take(read_roll(wire.read(body, RollAnswer).roll))
