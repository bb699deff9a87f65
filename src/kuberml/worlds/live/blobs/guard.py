"""Watches one connection of a `Door`: has the peer said what it wants, does it go on saying it?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class Limits:
    """What a door bears.

    connections: open at once; never more than half of the descriptors this process may have.
    per_peer: open at once from one address; a laboratory or a home shares one.
    head_s: from the first byte of a request (or the connection) to the end of its head. body_s: longest silence in its body.
    idle_s: a connection without a request is kept so long.
    """

    connections: int = 2048
    per_peer: int = 512
    head_s: float = 10.0
    body_s: float = 60.0
    idle_s: float = 60.0


class Guard(asyncio.Protocol):
    """Stands between a connection and aiohttp's protocol, and passes everything on."""

    def __init__(self, inner: Any, limits: Limits, entered: Callable[[Guard], None], left: Callable[[Guard], None]) -> None:
        """`inner` is the protocol that is guarded; `entered` and `left` are called when the connection is made and lost."""
        self._inner, self._limits, self._entered, self._left = inner, limits, entered, left
        self._loop = asyncio.get_running_loop()
        self._request: web.Request | None = None
        self._head_since_s: float | None = None
        self._heard_s = 0.0
        self._early = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """From here the peer has head_s to say what it wants."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._head_since_s = self._heard_s = self._loop.time()
        self._entered(self)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Note the time, and pass it on."""
        self._heard_s = self._loop.time()
        if self._request is None:
            self._head_since_s = self._heard_s if self._head_since_s is None else self._head_since_s
        elif self._request.content.is_eof():
            self._early = True  # of the next request
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """See `asyncio.Protocol`."""
        kept: bool | None = self._inner.eof_received()
        return kept

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is no longer counted."""
        self._left(self)
        self._inner.connection_lost(exc)

    def begin(self, request: web.Request) -> None:
        """A head is complete: its request is being answered."""
        self._request, self._head_since_s, self._early = request, None, False

    def end(self) -> None:
        """It was answered."""
        self._request, self._head_since_s = None, self._loop.time() if self._early else None

    def check(self, now_s: float) -> None:
        """Close the connection of a peer that is too slow."""
        slow_head = self._head_since_s is not None and now_s - self._head_since_s > self._limits.head_s
        in_body = self._request is not None and not self._request.content.is_eof()
        if slow_head or (in_body and now_s - self._heard_s > self._limits.body_s):
            self.abort()

    def abort(self) -> None:
        """Close now; nothing more is sent."""
        if self.transport is not None:
            self.transport.abort()
