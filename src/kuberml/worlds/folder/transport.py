"""The seam's Transport over a shared folder: blobs are read where they lie, announcements go over the notice board.

A folder carries no questions: only nodes of this process answer (the hub is one of them, see `world`). Whoever lives in
another process is present, can be read from, and is heard, but an `ask` of it is Unreachable.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from kuberml.core.errors import KuberError, RemoteError, Unreachable
from kuberml.core.ids import Digest, NodeId
from kuberml.core.seam import Handler, Reading, Store
from kuberml.worlds.folder.notices import Notices

MAX_IN_FLIGHT = 256
"""Requests that one node answers at a time; more are refused."""

POLL_S = 0.05
"""How often a subscription looks at the board."""


class Doors:
    """What the transports of one process share: the board, and who is here."""

    def __init__(self, notices: Notices) -> None:
        self.notices = notices
        self.here: dict[NodeId, FolderTransport] = {}


class FolderTransport:
    """`core.seam.Transport` of one node."""

    reading = Reading()

    def __init__(self, doors: Doors, node: NodeId, store: Store) -> None:
        """Its store is the shared folder: what one member has, it can read for all."""
        self._doors, self._node, self._store = doors, node, store
        self._handlers: dict[str, Handler] = {}
        self._in_flight = 0
        doors.here[node] = self

    @property
    def node(self) -> NodeId:
        """Whose door this is."""
        return self._node

    async def ask(self, to: NodeId, name: str, body: bytes, *, timeout_s: float) -> bytes:
        """See the seam."""
        door = self._doors.here.get(to)
        if door is None:
            raise Unreachable(f"{to} is not in this process: a folder carries packages and notices, not questions")
        try:
            async with asyncio.timeout(timeout_s):
                return await door.answer(self._node, name, body)
        except TimeoutError:
            raise Unreachable(f"{to}: no answer to {name!r} in {timeout_s} s") from None

    async def answer(self, asker: NodeId, name: str, body: bytes) -> bytes:
        """Answer one request at this door. Raises RemoteError: refused, or no such name."""
        handler = self._handlers.get(name)
        if handler is None:
            raise RemoteError(f"{self._node} serves no {name!r}")
        if self._in_flight >= MAX_IN_FLIGHT:
            raise RemoteError(f"{self._node} is busy: {MAX_IN_FLIGHT} requests in flight")
        self._in_flight += 1
        try:
            return await handler(asker, body)
        except KuberError as error:
            raise RemoteError(str(error)) from error
        finally:
            self._in_flight -= 1

    def serve(self, name: str, handler: Handler) -> None:
        """See the seam; the bound is MAX_IN_FLIGHT."""
        self._handlers[name] = handler

    async def announce(self, topic: str, body: bytes) -> None:
        """See the seam. Whoever subscribes reads it at its next look at the board."""
        self._doors.notices.post(topic, self._node, body)

    def subscribe(self, topic: str, *, limit: int = 1024) -> AsyncIterator[tuple[NodeId, bytes]]:
        """See the seam."""
        return self._heard(topic, limit, self._doors.notices.last())

    async def _heard(self, topic: str, limit: int, number: int) -> AsyncIterator[tuple[NodeId, bytes]]:
        while True:
            found = self._doors.notices.after(number, topic, limit=limit)
            waiting = [one for one in found if one.sender != self._node]
            if waiting:
                number = waiting[0].id
                yield waiting[0].sender, waiting[0].body
            else:
                number = found[-1].id if found else number  # one's own are not read again
                await asyncio.sleep(POLL_S)

    def alive(self, role: str | None = None) -> tuple[NodeId, ...]:
        """See the seam."""
        return tuple(node for node in self._doors.notices.present(role) if node != self._node)

    async def read(self, holder: NodeId, digest: Digest, start: int, stop: int, *, timeout_s: float) -> bytes:
        """See the seam. The holder need not be present: the folder is."""
        if not self._doors.notices.is_member(holder):
            raise Unreachable(f"nobody called {holder!r} was ever in this folder")
        try:
            return self._store.read(digest, start, stop)
        except KeyError:
            raise RemoteError(f"blob {digest[:12]} of {holder} is not in the folder") from None
        except ValueError as error:
            raise RemoteError(str(error)) from error
