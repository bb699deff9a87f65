"""A process's HTTP door: ranges of its blobs, and the same signed requests that come over the router."""

from __future__ import annotations

import asyncio
import io
import ssl

import aiohttp
from aiohttp import web

from kuberml.core.errors import ConfigError, RemoteError, Unreachable
from kuberml.core.seam import Store
from kuberml.worlds.live.answering import Answering
from kuberml.worlds.live.blobs.bucket import Bucket
from kuberml.worlds.live.blobs.door import Door
from kuberml.worlds.live.blobs.server import BlobServer
from kuberml.worlds.live.envelope import LIMIT_BYTES
from kuberml.worlds.live.names import free_port
from kuberml.worlds.live.ranges import Gate

ASK = "/v1/ask/{name}"
TYPE = "application/vnd.kuberml.envelope"


class HttpDoor:
    """A server that can be given more routes (the hub's page) until it is opened."""

    def __init__(self, store: Store, answering: Answering, gate: Gate, *, bucket: Bucket | None = None) -> None:
        self.app = web.Application(client_max_size=LIMIT_BYTES)
        self.blobs = BlobServer(store, gate.over_http, bucket)
        self._answering = answering
        self.app.add_routes([*self.blobs.routes(), web.post(ASK, self._ask)])
        self._door: Door | None = None

    async def open(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        """Listen. Raises ConfigError: the port is taken or not allowed."""
        self._door = Door(self.app, tls=tls)
        await self._door.open(host, port)

    async def close(self) -> None:
        """Stop listening."""
        if self._door is not None:
            await self._door.close()

    async def _ask(self, request: web.Request) -> web.Response:
        answer = await self._answering.answer(await request.read(), request.match_info["name"])
        if answer is None:
            raise web.HTTPBadRequest(text="not a signed request; see docs/protocol.md\n")
        return web.Response(body=answer, content_type=TYPE)


class Poster:
    """Sends requests to HTTP doors; see `asking.Post`."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._client: aiohttp.ClientSession | None = None

    async def post(self, url: str, name: str, envelope: bytes, timeout_s: float) -> bytes:
        """See `asking.Post`.

        Raises:
            Unreachable: nobody there, or no answer in time.
            RemoteError: it does not speak this protocol, or its answer is too long.
        """
        if self._client is None:
            self._client = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._tls or True))
        limit = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(timeout_s, 2.0))
        try:
            async with self._client.post(
                f"{url}/v1/ask/{name}", data=io.BytesIO(envelope), timeout=limit, allow_redirects=False
            ) as reply:
                if reply.status != 200:
                    raise RemoteError(f"{url} answers a request with status {reply.status}")
                return await _bounded(reply)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{url}: {error or type(error).__name__}") from error

    async def close(self) -> None:
        """Let go of connections."""
        if self._client is not None:
            await self._client.close()
            await asyncio.sleep(0)


async def _bounded(reply: aiohttp.ClientResponse) -> bytes:
    parts, size_bytes = [], 0
    async for part in reply.content.iter_any():
        parts.append(part)
        size_bytes += len(part)
        if size_bytes > LIMIT_BYTES:
            raise RemoteError(f"an answer over the limit of {LIMIT_BYTES} bytes")
    return b"".join(parts)


def listening(where: str) -> tuple[str, int]:
    """Host and port of "host:port"; port 0 is one that is free now. Raises ConfigError: it is not that."""
    host, _, port = where.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"{where!r} is not host:port, for instance 127.0.0.1:7448")
    host = host.removeprefix("[").removesuffix("]")
    return host, int(port) or free_port(host)
