"""Reads ranges of blobs over HTTP."""

from __future__ import annotations

import ssl as ssl_library

import aiohttp

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.core.ids import Digest


class BlobReader:
    """Keeps its connections."""

    def __init__(self, ssl: ssl_library.SSLContext | None = None, limit_bytes_s: int | None = None) -> None:
        self._ssl, self._limit = ssl, limit_bytes_s
        self._session: aiohttp.ClientSession | None = None

    async def read(
        self, url: str, digest: Digest, start: int, stop: int, *, ticket: str | None = None, stall_s: float = 5.0
    ) -> bytes:
        """Bytes start..stop. Raises Unreachable, RemoteError."""
        return await self._get(f"{url}/v1/blobs/{digest}", start, stop, {"Kuberml-Ticket": ticket} if ticket else {}, stall_s)

    async def read_mirror(self, url: str, digest: Digest, start: int, stop: int, *, stall_s: float = 5.0) -> bytes:
        """The same of a mirror. Raises Unreachable, RemoteError."""
        return await self._get(f"{url}/blobs/{digest[:2]}/{digest}", start, stop, {}, stall_s)

    async def _get(self, url: str, start: int, stop: int, headers: dict[str, str], stall_s: float) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._ssl or True))
        limit = aiohttp.ClientTimeout(total=None, sock_connect=stall_s, sock_read=stall_s)
        asked = {**headers, "Range": f"bytes={start}-{stop - 1}"}
        try:
            async with self._session.get(url, headers=asked, timeout=limit, allow_redirects=False) as reply:
                if reply.status != 206:
                    raise RemoteError(f"{url} answers with status {reply.status}")
                return await reply.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{url}: {error or type(error).__name__}") from error

    async def close(self) -> None:
        """Let go of connections."""
        if self._session is not None:
            await self._session.close()
