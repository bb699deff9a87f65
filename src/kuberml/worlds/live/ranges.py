"""Ranges of blobs: over HTTP where the holder can be dialled, through the router where not, from mirrors by their address.

Which way works is found out by trying, and remembered for a while. Nothing is verified here: delivery does.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.core.ids import Digest, NodeId
from kuberml.core.seam import Intake
from kuberml.worlds.live import names
from kuberml.worlds.live.answering import Answering
from kuberml.worlds.live.blobs.answer import Busy
from kuberml.worlds.live.blobs.client import BlobReader
from kuberml.worlds.live.blobs.intakes import Counted
from kuberml.worlds.live.blobs.pace import Pace
from kuberml.worlds.live.blobs.windows import read_windowed
from kuberml.worlds.live.envelope import Request, Voice, opened
from kuberml.worlds.live.presence import Gathering
from kuberml.worlds.live.session import Link
from kuberml.worlds.live.trust.policy import Trust

if TYPE_CHECKING:
    from kuberml.worlds.live.asking import Asking

DIAL_S = 1.0
"""Patience with an address that may not be reachable from here."""
AGAIN_S = 60.0
"""After which an address that could not be dialled is tried again."""


class Ranges:
    """One process's reading of others' blobs."""

    def __init__(self, link: Link, voice: Voice, here: Gathering, asking: Asking, reader: BlobReader,
                 mirrors: Mapping[NodeId, str]) -> None:  # fmt: skip
        """`mirrors`: base addresses of files laid out like a vault, under the names that delivery uses for them."""
        self._link, self._voice, self._here, self._asking = link, voice, here, asking
        self._reader, self._mirrors = reader, dict(mirrors)
        self._rests: dict[str, tuple[float, str]] = {}  # addresses that asked for a pause: until when, and what they said
        self._dead: dict[str, float] = {}  # addresses that could not be dialled, and since when
        self._paces: dict[NodeId, Pace] = {}
        self._tickets: dict[tuple[NodeId, str], bytes] = {}

    async def read(
        self, holder: NodeId, digest: Digest, start: int, stop: int, stall_s: float, intake: Counted | None = None
    ) -> bytes:
        """See `Transport.read`; with `intake`, see `Streaming`: then b"". Raises Unreachable, RemoteError."""
        if holder in self._mirrors:
            return await self._reader.read_mirror(self._mirrors[holder], digest, start, stop, stall_s=stall_s, intake=intake)
        urls = [url for url in (await self._asking.door(holder, stall_s)).urls if self._is_worth_a_try(url)]
        presence = self._here.remembered(holder)
        if presence is None:
            raise Unreachable(f"{holder} is not here")
        ticket = self._ticket(holder, presence.epoch)
        for url in urls:
            self._check_rested(url)
            try:
                text = base64.urlsafe_b64encode(ticket).decode()
                data = await self._reader.read(url, digest, start, stop, ticket=text, stall_s=stall_s, intake=intake)
                self._asking.ways.came(url)
                return data
            except Busy as error:  # it is there: another way to it would be no better
                self._rests[url] = time.monotonic() + error.wait_s, str(error)
                raise
            except Unreachable:
                self._dead[url] = time.monotonic()
                self._asking.ways.failed(url)
                if intake is not None and intake.size_bytes:
                    raise  # what came is in; what is missing is asked for anew
        key = names.blob_key(self._voice.realm, holder, digest)
        if await self._here.wait_for(holder, min(stall_s, DIAL_S)) is None:
            raise Unreachable(f"{holder} is not here")
        return await read_windowed(
            self._link.session, key, start, stop, ticket=ticket, stall_s=stall_s, pace=self._pace(holder),
            bucket=self._reader.bucket, pour=None if intake is None else lambda data: self.pour(data, intake),
        )  # fmt: skip

    async def pour(self, data: bytes, intake: Intake) -> bool:
        """Give an intake what came another way than over HTTP. Whether it wants more."""
        return await self._reader.pour(data, intake)

    async def close(self) -> None:
        """Let go of connections."""
        await self._reader.close()

    def _pace(self, holder: NodeId) -> Pace:
        """What reads of one holder have learned of the way to it."""
        if holder not in self._paces and len(self._paces) >= 1024:
            self._paces.clear()
        return self._paces.setdefault(holder, Pace())

    def _check_rested(self, url: str) -> None:
        until_s, why = self._rests.get(url, (0.0, ""))
        if until_s > time.monotonic():
            raise Unreachable(why)
        self._rests.pop(url, None)

    def _is_worth_a_try(self, url: str) -> bool:
        return time.monotonic() - self._dead.get(url, float("-inf")) > AGAIN_S

    def _ticket(self, holder: NodeId, epoch: str) -> bytes:
        ticket = self._tickets.get((holder, epoch))
        if ticket is None:
            if len(self._tickets) > 4096:
                self._tickets.clear()
            ticket = self._tickets[holder, epoch] = self._voice.ticket(holder, epoch)
        return ticket


class Gate:
    """Who may read blobs here: the bearer of a ticket, or anybody where the realm is open."""

    def __init__(self, answering: Answering, trust: Trust) -> None:
        self._answering, self._trust = answering, trust
        self._good: dict[str | bytes, Request] = {}

    def over_http(self, ticket: str | None, subject: str | None) -> None:
        """See `BlobServer`.

        Raises:
            RemoteError: no ticket, not a good one, or another's than the certificate.
            Unreachable: a ticket of before this node started again.
        """
        if ticket is None:
            if not self._trust.is_open:
                raise RemoteError("a ticket is needed here: the header Kuberml-Ticket")
            return
        bearer = self._admit(ticket).key
        if subject is not None and subject != bearer:
            raise RemoteError("the ticket was issued to another key than that of the certificate")

    def over_router(self, ticket: bytes | None) -> None:
        """See `serve_blobs`. Raises RemoteError: no ticket, or not a good one; Unreachable: an old one."""
        if ticket is None:
            raise RemoteError("a ticket is needed here")
        self._admit(ticket)

    def _admit(self, ticket: str | bytes) -> Request:
        request = self._good.get(ticket)
        if request is None:
            try:
                sealed = base64.urlsafe_b64decode(ticket) if isinstance(ticket, str) else ticket
            except ValueError as error:
                raise RemoteError("a ticket that is not base64") from error
            request = opened(sealed, Request)
        if request.name != "read":
            raise RemoteError("a request is not a ticket")
        self._answering.admit(request)  # each time anew: a key may have been revoked, an epoch have ended
        if len(self._good) > 4096:
            self._good.clear()
        self._good[ticket] = request
        return request
