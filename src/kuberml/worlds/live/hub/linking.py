"""Linked hubs: what an agreement lets pass is mirrored, so that members find and fetch it at their own hub.

The receiving hub dials the other one, asks again and again what is new (`linked`), makes a copy range by range (`linked_read`),
verified like any delivery, and only then announces it at home as its own; that it came from `link-...` stays in the catalog, so
that it goes no further. The giving hub checks every card and every range against the agreement, the receiving hub checks every
card again. The partner's hub is on the roll with no rights at all: these two requests are all that it can do.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from kuberml.core.errors import KuberError, RemoteError, Unreachable
from kuberml.core.ids import Digest, NodeId
from kuberml.core.tasks import end_all
from kuberml.exchange import wire
from kuberml.knowledge.card import SignedCard
from kuberml.knowledge.pack import check_limits
from kuberml.knowledge.signing import Keys, check_card
from kuberml.knowledge.withdrawal import SignedWithdrawal
from kuberml.worlds.live.blobs.tls import Tls
from kuberml.worlds.live.hub.agreed import LINK, RANGE_MAX_BYTES, Agreements, LinkAsk, LinkNews, LinkRead
from kuberml.worlds.live.hub.keeper import PARALLEL, Keeper
from kuberml.worlds.live.names import HUB
from kuberml.worlds.live.transport import LiveTransport
from kuberml.worlds.live.trust.agreement import Agreement, Party
from kuberml.worlds.live.trust.by_roll import RollTrust
from kuberml.worlds.live.world import LiveWorld

LOOK_S, AGAIN_S, TIMEOUT_S = 1.0, 2.0, 15.0

log = logging.getLogger("kuberml.live")


class Links:
    """A hub's links to those whose knowledge it receives."""

    def __init__(self, agreements: Agreements, keys: Keys, transport: LiveTransport, keeper: Keeper, tls: Tls | None) -> None:
        """`keys`, `transport` and `keeper` are the hub's; `tls` is for dialling the others."""
        self._agreements, self._keys, self._transport, self._tls = agreements, keys, transport, tls
        self._keeper = keeper

    async def run(self) -> None:
        """Follow the agreements in the folder, those that come and those that go, until cancelled."""
        following: dict[Path, tuple[Agreement, asyncio.Task[None]]] = {}
        try:
            while True:
                self._agreements.look()
                holding = self._agreements.holding
                for path in [path for path, (agreement, _) in following.items() if holding.get(path) != agreement]:
                    following.pop(path)[1].cancel()
                for path in holding.keys() - following.keys():
                    task = asyncio.create_task(self._follow(holding[path]), name=f"link {path.stem}")
                    following[path] = (holding[path], task)
                await asyncio.sleep(LOOK_S)
        finally:
            await end_all([task for _, task in following.values()])

    async def _follow(self, agreement: Agreement) -> None:
        partner, me = agreement.partner_of(self._agreements.owner), agreement.side_of(self._agreements.owner)
        own = agreement.first if me == "first" else agreement.second
        if not partner.address:
            return  # it dials us; who receives, dials
        while True:
            try:
                await self._mirror(agreement, partner, own)
            except (KuberError, OSError) as error:
                log.info("the link to realm %r is down: %s", partner.realm, error)
            await asyncio.sleep(AGAIN_S)

    async def _mirror(self, agreement: Agreement, partner: Party, own: Party) -> None:
        trust = RollTrust(partner.realm, owner=partner.owner, names={HUB: partner.hub})
        folder, node = self._agreements.folder / "links" / partner.owner[:16], NodeId(f"{LINK}{partner.owner[:16]}")
        async with LiveWorld.open(
            partner.address,
            node=own.node,
            role="hub",
            keys=self._keys,
            vault=folder,
            realm=partner.realm,
            trust=trust,
            tls=self._tls,
        ) as there:
            welcome = await there.enter(TIMEOUT_S)
            if welcome.key != partner.hub:
                raise RemoteError(f"the hub at {partner.address} has the key {welcome.key[:12]}..., not the agreement's")
            held: dict[Digest, Digest] = {}

            async def read(digest: Digest, start: int, stop: int, timeout_s: float) -> bytes:
                card = held.get(digest)
                if card is None:
                    raise Unreachable(f"{digest[:12]} did not come over this link since it was last down")
                parts = []
                for at in range(start, stop, RANGE_MAX_BYTES):
                    asked = LinkRead(card, digest, at, min(stop, at + RANGE_MAX_BYTES))
                    parts.append(await there.transport.ask(HUB, "linked_read", wire.write(asked), timeout_s=timeout_s))
                return b"".join(parts)

            self._transport.proxies[node] = read
            try:
                era, since, missing = "", 0, ""
                while True:
                    body = await there.transport.ask(HUB, "linked", wire.write(LinkAsk(era, since)), timeout_s=TIMEOUT_S)
                    news = wire.read(body, LinkNews)
                    missing = await self._take(agreement, node, news, held) or missing
                    era, since = news.era, news.since
                    if news.is_all and missing:  # whatever else there was is in, and what was withdrawn is out
                        raise Unreachable(missing)
                    if news.is_all:
                        await asyncio.sleep(LOOK_S)
            finally:
                self._transport.proxies.pop(node, None)

    async def _take(self, agreement: Agreement, node: NodeId, news: LinkNews, held: dict[Digest, Digest]) -> str:
        """Mirror what is new. Returns why something has to be tried again, "" where nothing has."""
        turns = asyncio.Semaphore(PARALLEL)
        source = agreement.side_of(agreement.partner_of(self._agreements.owner).owner)

        async def mirror(signed: SignedCard) -> None:
            check_limits(signed)
            check_card(signed)
            why = agreement.why_not(signed.card, source, self._agreements.now_ms())
            if why is not None:
                raise RemoteError(f"the other hub sends what may not pass: {why}")
            held.update((ref.digest, signed.digest) for ref in signed.card.blobs)
            async with turns:
                await self._keeper.mirror(signed, node)
            await self._at_home("announce", wire.Announcement(signed, HUB))

        came, missing = await asyncio.gather(*(mirror(signed) for signed in news.cards), return_exceptions=True), ""
        for signed, error in zip(news.cards, came, strict=True):
            if isinstance(error, RemoteError):
                log.info("%s is not mirrored: %s", signed.digest[:12], error)
            elif isinstance(error, (Unreachable, OSError)):  # the link is down, or our disk is full
                missing = f"{signed.digest[:12]} has not come: {error}"
            elif error is not None:
                raise error
        for withdrawal in news.withdrawals:
            try:
                await self._at_home("withdraw", withdrawal)
            except RemoteError as error:
                log.info("a withdrawal is not taken over: %s", error)
        return missing

    async def _at_home(self, request: str, message: wire.Announcement | SignedWithdrawal) -> None:
        await self._transport.answering.handlers[request](HUB, wire.write(message))
