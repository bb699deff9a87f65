"""The HTTP side of a vault: one range of a blob per request, at the speed of the socket.

From a `FolderStore` the kernel copies file to socket (sendfile); over TLS 256 kB pieces are written one by one (aiohttp's own
FileResponse takes asyncio's slow path there). Content is named by its digest, which is also its ETag: it never changes.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus

from aiohttp import web

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.core.ids import Digest, check_digest
from kuberml.core.seam import Store
from kuberml.worlds.live.blobs.bucket import Bucket
from kuberml.worlds.live.blobs.sending import Source, opened, send
from kuberml.worlds.live.blobs.tls import key_of

PATH = "/v1/blobs/{digest}"
TICKET = "Kuberml-Ticket"
OPEN_REQUESTS, OPEN_PER_PEER = 256, 128
"""Answers under way in all, and to one address: beyond that 429. A laboratory behind one address shares its part."""
STALL_S = 60.0
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")

Gate = Callable[[str | None, str | None], None]
"""(ticket, the key of the peer's certificate) -> nothing; or RemoteError with the reason; or Unreachable: an old ticket."""


class BlobServer:
    """Answers GET and HEAD of blobs; add its routes to an application."""

    def __init__(
        self,
        store: Store,
        gate: Gate,
        bucket: Bucket | None = None,
        *,
        stall_s: float = STALL_S,
        open_requests: int = OPEN_REQUESTS,
        open_per_peer: int = OPEN_PER_PEER,
    ) -> None:
        """Serve nothing before `routes` are part of an application.

        Args:
            store: whose blobs.
            gate: asked before anything is said about a blob, even whether it is here.
            bucket: upload bandwidth of all answers together; default: no limit.
            stall_s: a peer that takes nothing for so long is dropped.
            open_requests: bound on answers under way.
            open_per_peer: and on those to one address.
        """
        self._store, self._gate, self._bucket = store, gate, bucket or Bucket(None)
        self._stall_s, self._open_requests, self._open_per_peer = stall_s, open_requests, open_per_peer
        self._open: Counter[str] = Counter()
        self.sent_bytes = 0
        """Of blobs, since the start."""
        self.refused = 0
        """Requests that the gate or a bound turned away."""

    def routes(self) -> list[web.AbstractRouteDef]:
        """What an application needs to serve these blobs."""
        return [web.get(PATH, self._answer, allow_head=True)]

    @property
    def open_now(self) -> int:
        """Answers under way."""
        return self._open.total()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        async with self._place(request.remote or "?"):
            digest = self._admit(request)
            try:
                source = opened(self._store, digest)
            except KeyError:
                raise web.HTTPNotFound(text=f"blob {digest[:12]}... is not here\n") from None
            with source:
                return await self._respond(request, digest, source)

    @contextlib.asynccontextmanager
    async def _place(self, peer: str) -> AsyncIterator[None]:
        if self.open_now >= self._open_requests or self._open[peer] >= self._open_per_peer:
            self.refused += 1
            raise web.HTTPTooManyRequests(text="too many requests are open here; try again\n", headers={"Retry-After": "1"})
        self._open[peer] += 1
        try:
            yield
        finally:
            self._open[peer] -= 1
            if not self._open[peer]:
                del self._open[peer]

    def _admit(self, request: web.Request) -> Digest:
        certificate = request.transport.get_extra_info("peercert") if request.transport else None
        try:
            self._gate(request.headers.get(TICKET), key_of(certificate))
        except RemoteError as error:
            self.refused += 1
            raise web.HTTPForbidden(text=f"{error}\n") from None
        except Unreachable as error:  # no refusal: who reads here holds a ticket of before a restart, and gets another
            raise web.HTTPServiceUnavailable(text=f"{error}\n", headers={"Retry-After": "1"}) from None
        try:
            return check_digest(request.match_info["digest"])
        except RemoteError as error:
            raise web.HTTPNotFound(text=f"{error}\n") from None

    async def _respond(self, request: web.Request, digest: Digest, source: Source) -> web.StreamResponse:
        tag, size = f'"{digest}"', source.size_bytes
        headers = {
            "ETag": tag,
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
            "X-Content-Type-Options": "nosniff",  # a stranger's bytes, served beside our page
            "Cache-Control": "private, max-age=31536000, immutable",
        }
        if tag in request.headers.get("If-None-Match", ""):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        asked = request.headers.get("Range", "") if request.headers.get("If-Range", tag) == tag else ""
        partial = asked.startswith("bytes=")  # another unit, or none: all of it
        start, stop = _span(asked, size) if partial else (0, size)
        response = web.StreamResponse(status=HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK, headers=headers)
        if partial:
            response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        response.content_length = stop - start
        try:
            await response.prepare(request)
            if request.method == "GET" and request.transport is not None:
                self.sent_bytes += await send(request.transport, response, source, start, stop, self._bucket, self._stall_s)
        except OSError:  # it takes nothing (a TimeoutError is one), or has left: half an answer cannot be mended
            if request.transport is not None:
                request.transport.abort()
            return response
        await response.write_eof()
        return response


def _span(asked: str, size: int) -> tuple[int, int]:
    """The one range of bytes that a Range header asks of `size` bytes."""
    found = _RANGE.fullmatch(asked.replace(" ", ""))
    first, last = found.groups() if found else ("", "")
    if first:
        start, stop = int(first), min(int(last) + 1 if last else size, size)
    elif last:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = 0, 0
    if start >= stop:
        raise web.HTTPRequestRangeNotSatisfiable(
            text=f"{asked!r:.80} is not one range within {size} bytes\n", headers={"Content-Range": f"bytes */{size}"}
        )
    return start, stop
