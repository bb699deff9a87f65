"""Listening for HTTP with bounds: who is let in, how many, and how long a peer may take to say what it wants.

aiohttp alone lets anybody open as many connections as there are descriptors, and say one byte of a request each minute. Here
connections are counted when they are accepted, before TLS and before a byte is read; those over a bound are closed at once. A
connection whose request head is not complete within `head_s`, or whose request body pauses for `body_s`, is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from kuberml.core.errors import ConfigError
from kuberml.worlds.live.blobs.guard import Guard, Limits

log = logging.getLogger("kuberml.http")
log.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError)))
"""Who sends what is no HTTP is told so (400): the log of who serves is not his to fill with tracebacks."""

BACKLOG = 1024
LAST_WORDS_S = 1.0
"""For answers under way when the door closes."""
_FULL = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Door:
    """An application that listens. Open it once, close it."""

    def __init__(self, app: web.Application, *, tls: ssl.SSLContext | None = None, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        """The application must not be running yet: what watches its requests is added to it."""
        self._app, self._tls, self._limits = app, tls, limits
        self._most = min(limits.connections, max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))
        self._guards: dict[int, Guard] = {}
        self._from: Counter[str] = Counter()
        self._entering: set[asyncio.Task[None]] = set()
        self._listening: socket.socket | None = None
        self._working: list[asyncio.Task[None]] = []
        self._runner: web.AppRunner | None = None
        self.turned_away = 0
        """Connections closed because of a bound, since the start."""

    @property
    def connections(self) -> int:
        """How many are open."""
        return self._from.total()

    async def open(self, host: str, port: int = 0) -> int:
        """Listen; returns the port (0 asks for a free one).

        Raises:
            ConfigError: it is taken, or not allowed.
        """
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
        except OSError as error:
            raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}; give another port") from error
        listening.setblocking(False)
        self._listening = listening
        self._app.middlewares.append(self._watch)
        self._runner = web.AppRunner(
            self._app,
            access_log=None,
            logger=log,
            handler_cancellation=True,
            keepalive_timeout=self._limits.idle_s,
            shutdown_timeout=LAST_WORDS_S,
        )
        await self._runner.setup()
        self._working = [asyncio.create_task(self._accept(listening)), asyncio.create_task(self._sweep())]
        return int(listening.getsockname()[1])

    async def close(self) -> None:
        """Listen no more, and end what is open."""
        for task in (*self._working, *self._entering):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._listening is not None:
            self._listening.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listening)
            except OSError as error:
                await asyncio.sleep(0.1 if error.errno in _FULL else 0)  # one that left before, or no descriptor is free
                continue
            peer = str(address[0])
            if self.connections >= self._most or self._from[peer] >= self._limits.per_peer:
                self.turned_away += 1
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                connection.close()
                continue
            self._from[peer] += 1
            task = asyncio.create_task(self._enter(connection, peer))
            self._entering.add(task)
            task.add_done_callback(self._entering.discard)

    async def _enter(self, connection: socket.socket, peer: str) -> None:
        assert self._runner is not None
        assert self._runner.server is not None
        server = self._runner.server
        guard = Guard(server(), self._limits, self._entered, lambda guard: self._left(guard, peer))
        limit_s = self._limits.head_s if self._tls is not None else None
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: guard, connection, ssl=self._tls, ssl_handshake_timeout=limit_s
            )
        except (OSError, asyncio.CancelledError):  # no TLS, a refused certificate, or too slow
            connection.close()
        finally:
            if guard.transport is None:
                self._forget(peer)

    def _entered(self, guard: Guard) -> None:
        self._guards[id(guard.transport)] = guard

    def _left(self, guard: Guard, peer: str) -> None:
        del self._guards[id(guard.transport)]
        self._forget(peer)

    @web.middleware
    async def _watch(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        guard = self._guards.get(id(request.transport))
        if guard is None:
            return await handler(request)  # the connection has gone meanwhile
        guard.begin(request)
        try:
            return await handler(request)
        finally:
            guard.end()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(self._limits.head_s, self._limits.body_s) / 4)
            for guard in tuple(self._guards.values()):
                guard.check(asyncio.get_running_loop().time())

    def _forget(self, peer: str) -> None:
        self._from[peer] -= 1
        if not self._from[peer]:
            del self._from[peer]
