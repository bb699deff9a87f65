"""Reads ranges of blobs over HTTP/1.1 into one buffer: from members, and from dumb mirrors.

Each read runs in a thread with a plain blocking socket: `recv_into` puts the bytes where they stay and leaves the interpreter
to others meanwhile, with and without TLS (measured against asyncio and aiohttp: benchmarks/delivery.py). A socket's timeout is
exactly the stall timer that is wanted: the longest silence, however long the whole takes.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl as tls
import time
from concurrent.futures import ThreadPoolExecutor
from typing import cast
from urllib.parse import SplitResult, urlsplit

from kuberml.core.errors import ConfigError, InternalError
from kuberml.core.ids import Digest, check_digest
from kuberml.core.seam import Intake
from kuberml.worlds.live.blobs.background import step_back
from kuberml.worlds.live.blobs.bucket import Bucket
from kuberml.worlds.live.blobs.call import Call
from kuberml.worlds.live.blobs.connection import Place, Pool
from kuberml.worlds.live.blobs.intakes import Whole, pour
from kuberml.worlds.live.blobs.mirror import blob_path
from kuberml.worlds.live.blobs.s3 import SCHEME, Buckets
from kuberml.worlds.live.blobs.turns import Turns

THREADS = 64
WHOLE_BYTES = 64 << 20
"""Of a mirror that knows no ranges, a file up to this size is read and the rest of it thrown away."""
STALL_S = 30.0
_LINE = re.compile(r"[\x21-\x7e]{0,8000}")


class BlobReader:
    """Reads for one process; keeps connections. Close it."""

    def __init__(self, ssl: tls.SSLContext | None = None, limit_bytes_s: int | None = None) -> None:
        """Dial nobody yet.

        Args:
            ssl: for https addresses of members (`Tls.client_context`); mirrors are trusted as any web site is.
            limit_bytes_s: download bandwidth of all reads together.
        """
        self._ssl, self.bucket = ssl, Bucket(limit_bytes_s)
        self._web: tls.SSLContext | None = None
        self._pool = Pool()
        self._turns = Turns(max(3, (os.cpu_count() or 1) + 1))
        self._buckets = Buckets()
        self._calls: set[Call] = set()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="kuberml-read", initializer=step_back)

    async def read(
        self,
        url: str,
        digest: Digest,
        start: int,
        stop: int,
        *,
        ticket: str | None = None,
        stall_s: float = STALL_S,
        key: str | None = None,
        intake: Intake | None = None,
    ) -> bytes:
        """Bytes start..stop of a blob of the member at `url` ("http://host:port"), not verified.

        Args:
            intake: takes them while they come; then b"" is returned, and the intake may have ended it early.
            ticket: opens the holder's gate.
            stall_s: longest silence.
            key: whose certificate must be at the other end; needed where the context does not check the name.

        Raises:
            RemoteError: it has no such blob or range, refuses, is another's, or does not answer what was asked.
            Unreachable: nobody there, silent for stall_s, cut off, or too busy.
            ConfigError: an address that is none, or https without a context.
        """
        where = _split(url)
        if where.scheme == "https" and self._ssl is None:
            raise ConfigError(f"{url} needs certificates of its realm: see `kuberml keys`")
        if where.scheme == "https" and self._ssl is not None and not self._ssl.check_hostname and key is None:
            raise InternalError("a TLS context that does not check the name needs the key that it is to check")
        target = f"{where.path.rstrip('/')}/v1/blobs/{check_digest(digest)}"
        more = f"Kuberml-Ticket: {ticket}\r\n" if ticket and _LINE.fullmatch(ticket) else ""
        request, place = _request(where, target, more, start, stop), _place(where, self._ssl, key)
        return await self._run(place, request, start, stop, stall_s, 0, intake)

    async def read_mirror(
        self, url: str, digest: Digest, start: int, stop: int, *, stall_s: float = STALL_S, intake: Intake | None = None
    ) -> bytes:
        """As `read`, from any static web server or bucket with files laid out as in a vault: `url`/blobs/3f/3f9c...

        A query in `url` (an access signature) is kept. A server without ranges is read whole up to WHOLE_BYTES, else refused.
        "s3://bucket/prefix" is read with the credentials of the environment, see `s3`.

        Raises:
            RemoteError, Unreachable, ConfigError: as `read`; MissingExtra: s3, and obstore is not installed.
        """
        if url.startswith(SCHEME):
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, self._from_bucket, url, blob_path(check_digest(digest)), start, stop, stall_s, intake
            )
        where = _split(url)
        if where.scheme == "https" and self._web is None:
            self._web = tls.create_default_context()
        query = f"?{where.query}" if where.query else ""
        target = f"{where.path.rstrip('/')}/{blob_path(check_digest(digest))}{query}"
        request, place = _request(where, target, "", start, stop), _place(where, self._web, None)
        return await self._run(place, request, start, stop, stall_s, WHOLE_BYTES, intake)

    async def pour(self, data: bytes, intake: Intake) -> bool:
        """Give an intake what came another way, in a thread. Whether it wants more."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, pour, data, intake)

    async def close(self) -> None:
        """Let go of connections; reads under way fail."""
        self._pool.close()
        for call in tuple(self._calls):
            call.cancel()
        await asyncio.to_thread(self._threads.shutdown)

    async def _run(
        self, place: Place, request: bytes, start: int, stop: int, stall_s: float, whole_bytes: int, intake: Intake | None
    ) -> bytes:
        if start == stop:
            return b""
        whole = Whole(0 if intake is not None else stop - start)
        call = Call(self._turns, self._pool, self.bucket, place, request, intake or whole,
                    start=start, stop=stop, stall_s=stall_s, whole_bytes=whole_bytes)  # fmt: skip
        self._calls.add(call)
        running = asyncio.get_running_loop().run_in_executor(self._threads, call.run)
        running.add_done_callback(lambda done: self._ended(call, done))
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            call.cancel()
            raise
        return cast(bytes, whole.view)  # reads as bytes do; a copy would cost as much as to receive it

    def _from_bucket(self, url: str, path: str, start: int, stop: int, stall_s: float, intake: Intake | None) -> bytes:
        data = self._buckets.at(url, stall_s).read(path, start, stop) if start < stop else b""
        time.sleep(self.bucket.take(len(data)))
        if intake is None:
            return data
        pour(data, intake)
        return b""

    def _ended(self, call: Call, done: asyncio.Future[None]) -> None:
        self._calls.discard(call)
        if not done.cancelled():
            done.exception()  # whoever waited may have gone: then nobody else looks at it


def _split(url: str) -> SplitResult:
    try:
        where = urlsplit(url)
        port = where.port
    except ValueError as error:
        raise ConfigError(f"{url!r:.200} is not an address: {error}") from error
    if where.scheme not in ("http", "https") or not where.hostname or port == 0 or not _LINE.fullmatch(url):
        raise ConfigError(f"{url!r:.200} is not an address like http://host:port")
    return where


def _request(where: SplitResult, target: str, more: str, start: int, stop: int) -> bytes:
    return (
        f"GET {target} HTTP/1.1\r\nHost: {where.netloc.rpartition('@')[2]}\r\nRange: bytes={start}-{stop - 1}\r\n"
        f"Accept-Encoding: identity\r\nUser-Agent: kuberml\r\n{more}\r\n"
    ).encode("ascii")


def _place(where: SplitResult, context: tls.SSLContext | None, key: str | None) -> Place:
    secure = where.scheme == "https"
    return where.hostname or "", where.port or (443 if secure else 80), context if secure else None, key
