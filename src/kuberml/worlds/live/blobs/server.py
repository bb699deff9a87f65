"""Gives ranges of blobs over HTTP."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from kuberml.core.errors import RemoteError
from kuberml.core.ids import check_digest
from kuberml.core.seam import Store


class BlobServer:
    """Routes over a store."""

    def __init__(self, store: Store, gate: Callable[[str | None, str | None], None], limit_bytes_s: int | None = None) -> None:
        self._store, self._gate, self._limit = store, gate, limit_bytes_s

    def routes(self) -> list[web.RouteDef]:
        """For an aiohttp application."""
        return [web.get("/v1/blobs/{digest}", self._get)]

    async def _get(self, request: web.Request) -> web.Response:
        try:
            self._gate(request.headers.get("Kuberml-Ticket"), None)
            digest = check_digest(request.match_info["digest"])
        except RemoteError as error:
            raise web.HTTPForbidden(text=str(error)) from error
        asked = request.http_range
        try:
            return web.Response(status=206, body=self._store.read(digest, asked.start, asked.stop))
        except KeyError:
            raise web.HTTPNotFound from None
