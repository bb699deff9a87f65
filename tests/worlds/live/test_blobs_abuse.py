"""What strangers do to a door: too slow, too many, too much. Others go on being served."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kuberml.core.ids import digest_of
from kuberml.vault.folder import FolderStore
from kuberml.worlds.live.blobs.answer import Busy
from kuberml.worlds.live.blobs.client import BlobReader
from kuberml.worlds.live.blobs.guard import Limits
from tests.worlds.live.blob_doors import BLOB, serving

DIGEST = digest_of(BLOB)
GET = f"GET /v1/blobs/{DIGEST} HTTP/1.1\r\nHost: x\r\n".encode()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FolderStore]:
    with FolderStore(tmp_path / "vault") as store:
        store.put(BLOB)
        yield store


def dial(url: str, source: str = "127.0.0.1") -> socket.socket:
    where = urlsplit(url)
    return socket.create_connection((where.hostname, where.port), timeout=5, source_address=(source, 0))


def closed_after(connection: socket.socket) -> float:
    """Seconds until the other side closes it."""
    began = time.monotonic()
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(1 << 16):
            pass
    return time.monotonic() - began


async def read_once(url: str) -> bytes:
    reader = BlobReader()
    try:
        return await reader.read(url, DIGEST, 0, 1000, stall_s=5)
    finally:
        await reader.close()


def says_nothing(connection: socket.socket) -> None:
    pass


def says_half_a_head(connection: socket.socket) -> None:
    connection.sendall(GET)


def drips(connection: socket.socket) -> None:
    """A byte of a head now and then: the clock runs from the first one."""

    def drip() -> None:
        with contextlib.suppress(OSError):
            for byte in GET:
                connection.sendall(bytes([byte]))
                time.sleep(0.05)

    threading.Thread(target=drip, daemon=True).start()


def stops_in_the_second_request(connection: socket.socket) -> None:
    connection.sendall(GET + b"Range: bytes=0-0\r\n\r\n")
    assert b"206 Partial" in connection.recv(4096)
    connection.sendall(GET)


@pytest.mark.parametrize("peer", [says_nothing, says_half_a_head, drips, stops_in_the_second_request])
def test_a_peer_that_does_not_finish_its_request_is_dropped(store: FolderStore, peer: Callable[[socket.socket], None]) -> None:
    async def main() -> float:
        async with serving(store, limits=Limits(head_s=0.6)) as (url, door, _):
            with dial(url) as connection:
                await asyncio.to_thread(peer, connection)
                took_s = await asyncio.to_thread(closed_after, connection)
            assert await read_once(url) == BLOB[:1000]
            assert door.connections <= 1
            return took_s

    assert 0.3 < asyncio.run(main()) < 2.5


def test_a_slow_head_within_its_time_is_answered(store: FolderStore) -> None:
    def slowly(url: str) -> bytes:
        with dial(url) as connection:
            for part in (GET[:9], GET[9:], b"Range: bytes=0-3\r\n", b"\r\n"):
                connection.sendall(part)
                time.sleep(0.1)
            return connection.recv(4096)

    async def main() -> bytes:
        async with serving(store, limits=Limits(head_s=2.0)) as (url, _, _):
            return await asyncio.to_thread(slowly, url)

    assert asyncio.run(main()).endswith(b"\r\n\r\n" + BLOB[:4])


def test_a_peer_that_takes_nothing_is_dropped_and_one_that_is_slow_is_not(store: FolderStore) -> None:
    def ask(url: str) -> socket.socket:
        where = urlsplit(url)
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(10)
        connection.connect((where.hostname, where.port))
        connection.sendall(GET + b"\r\n")
        return connection

    def slowly(connection: socket.socket) -> int:
        """Bytes taken: for two seconds few of them, so that the kernel never calls the other end writable, then the rest."""
        got, until_s = 0, time.monotonic() + 2
        with contextlib.suppress(ConnectionResetError):
            while data := connection.recv(1 << 13):
                got += len(data)
                time.sleep(0.008 if time.monotonic() < until_s else 0)
        return got

    async def main() -> None:
        async with serving(store, stall_s=0.5, limits=Limits(idle_s=0.5)) as (url, door, server):
            with ask(url) as idle, ask(url) as slow:
                reading = asyncio.create_task(asyncio.to_thread(slowly, slow))
                await asyncio.sleep(0.2)
                assert server.open_now == 2
                assert await reading > len(BLOB)
                for _ in range(50):
                    await asyncio.sleep(0.05)
                    if not server.open_now:
                        break
                assert server.open_now == 0
                assert await asyncio.to_thread(slowly, idle) < len(BLOB)
            assert door.connections == 0

    asyncio.run(main())


def test_more_requests_than_the_bound_are_told_to_come_again(store: FolderStore) -> None:
    async def main() -> None:
        reader = BlobReader()
        try:
            async with serving(store, open_per_peer=2, limit_bytes_s=1 << 20) as (url, _, server):
                busy = [asyncio.create_task(reader.read(url, DIGEST, 0, 1 << 19)) for _ in range(2)]
                await asyncio.sleep(0.2)
                assert server.open_now == 2
                with pytest.raises(Busy, match="429: too many requests") as caught:
                    await reader.read(url, DIGEST, 0, 10)
                assert caught.value.wait_s == 1.0
                await asyncio.gather(*busy)
                assert await reader.read(url, DIGEST, 0, 10) == BLOB[:10]
                assert server.refused == 1
        finally:
            await reader.close()

    asyncio.run(main())


def test_a_thousand_peers_that_connect_at_once_break_nothing(store: FolderStore) -> None:
    """Beyond the bound of one address they are closed at once; others are served meanwhile, and everybody afterwards."""

    def storm(url: str) -> list[socket.socket]:
        held = []
        for _ in range(1000):
            with contextlib.suppress(OSError):
                held.append(dial(url, "127.0.0.9"))
        return held

    async def main() -> None:
        async with serving(store, limits=Limits(per_peer=100)) as (url, door, _):
            held = await asyncio.to_thread(storm, url)
            try:
                began = time.monotonic()
                assert await read_once(url) == BLOB[:1000]
                assert time.monotonic() - began < 2.0
                assert door.connections <= 101
                assert door.turned_away >= 850
            finally:
                for connection in held:
                    connection.close()
            await asyncio.sleep(0.2)
            with await asyncio.to_thread(dial, url, "127.0.0.9") as again:
                again.sendall(GET + b"Range: bytes=0-0\r\n\r\n")
                assert b"206 Partial" in await asyncio.to_thread(again.recv, 4096)

    asyncio.run(main())


def test_a_body_that_pauses_is_dropped(store: FolderStore) -> None:
    from aiohttp import web

    from kuberml.worlds.live.blobs.door import Door

    async def take(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    def post(port: int) -> float:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
            return closed_after(connection)

    async def main() -> float:
        app = web.Application()
        app.add_routes([web.post("/", take)])
        door = Door(app, limits=Limits(body_s=0.4))
        port = await door.open("127.0.0.1")
        try:
            return await asyncio.to_thread(post, port)
        finally:
            await door.close()

    assert 0.3 < asyncio.run(main()) < 2.0


@pytest.mark.parametrize("head", [b"Content-Length: -1\r\n", b"X: " + b"y" * 20_000 + b"\r\n", b"no colon\r\n"])
def test_what_is_no_http_is_told_so_and_does_not_fill_the_log(
    store: FolderStore, caplog: pytest.LogCaptureFixture, head: bytes
) -> None:
    async def main() -> bytes:
        async with serving(store) as (url, _, _):
            return await asyncio.to_thread(answered, url)

    def answered(url: str) -> bytes:
        with dial(url) as connection:
            connection.sendall(GET + head + b"\r\n")
            return connection.recv(1 << 16)

    assert b" 400 " in asyncio.run(main()).splitlines()[0]
    assert not caplog.records
