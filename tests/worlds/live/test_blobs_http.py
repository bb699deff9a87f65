"""Ranges of blobs over real HTTP connections: what is asked for comes, and nothing else is taken for it."""

import asyncio
import http.client
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kuberml.core.errors import ConfigError, RemoteError, Unreachable
from kuberml.core.ids import Digest, digest_of
from kuberml.vault.folder import FolderStore
from kuberml.worlds.live.blobs.client import BlobReader
from kuberml.worlds.simulated.store import SharedBlobs, SimulatedStore
from tests.worlds.live.blob_doors import BLOB, free_port, serving

DIGEST = digest_of(BLOB)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FolderStore]:
    with FolderStore(tmp_path / "vault") as store:
        store.put(BLOB)
        yield store


def ask(url: str, method: str = "GET", path: str = f"/v1/blobs/{DIGEST}", **headers: str) -> tuple[int, dict[str, str], bytes]:
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=5)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): text for name, text in headers.items()})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(("start", "stop"), [(0, len(BLOB)), (0, 1), (12345, 1 << 20), (len(BLOB) - 1, len(BLOB)), (5, 5)])
def test_a_range_comes_as_it_is(store: FolderStore, start: int, stop: int) -> None:
    async def main() -> bytes:
        reader = BlobReader()
        try:
            async with serving(store) as (url, _, server):
                data = await reader.read(url, DIGEST, start, stop)
                async with asyncio.timeout(5):
                    while server.sent_bytes != stop - start:  # noqa: ASYNC110 - a thread counts, when all of it was sent
                        await asyncio.sleep(0.005)
                return data
        finally:
            await reader.close()

    assert asyncio.run(main()) == BLOB[start:stop]


def test_a_store_that_is_no_folder_is_served_too() -> None:
    async def main() -> bytes:
        store, reader = SimulatedStore(SharedBlobs()), BlobReader()
        store.put(BLOB)
        try:
            async with serving(store) as (url, _, _):
                return await reader.read(url, DIGEST, 7, len(BLOB))
        finally:
            await reader.close()

    assert asyncio.run(main()) == BLOB[7:]


def test_another_client_gets_http_as_it_is_written(store: FolderStore) -> None:
    size = len(BLOB)

    async def main() -> None:
        async with serving(store) as (url, _, _):

            async def answer(*args: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
                return await asyncio.to_thread(ask, url, *args, **headers)

            status, headers, body = await answer()
            assert (status, body, headers["Content-Length"]) == (200, BLOB, str(size))
            assert (headers["ETag"], headers["Accept-Ranges"]) == (f'"{DIGEST}"', "bytes")
            assert headers["X-Content-Type-Options"] == "nosniff"
            status, headers, body = await answer("HEAD")
            assert (status, body, headers["Content-Length"]) == (200, b"", str(size))
            status, headers, body = await answer(Range="bytes=10-19")
            assert (status, body, headers["Content-Range"]) == (206, BLOB[10:20], f"bytes 10-19/{size}")
            assert (await answer(Range="bytes=-4"))[2] == BLOB[-4:]
            assert (await answer(Range=f"bytes={size - 4}-"))[2] == BLOB[-4:]
            assert (await answer(Range=f"bytes={size - 4}-{size + 9}"))[2] == BLOB[-4:]
            for wrong in (f"bytes={size}-", "bytes=5-2", "bytes=0-1,4-5", "bytes=-0", "bytes=-", "bytes=a-b"):
                status, headers, _ = await answer(Range=wrong)
                assert (status, headers["Content-Range"]) == (416, f"bytes */{size}"), wrong
            assert (await answer(Range="lines=1-2"))[0] == 200
            assert (await answer(Range="bytes=0-0", If_Range='"other"'))[0] == 200
            assert (await answer(If_None_Match=f'"{DIGEST}"'))[::2] == (304, b"")
            assert (await answer("GET", f"/v1/blobs/{'0' * 64}"))[0] == 404
            assert (await answer("GET", "/v1/blobs/..%2f..%2findex.sqlite"))[0] == 404
            assert (await answer("POST"))[0] == 405

    asyncio.run(main())


def test_the_gate_is_asked_first_and_its_reason_arrives(store: FolderStore) -> None:
    asked: list[tuple[str | None, str | None]] = []

    def gate(ticket: str | None, subject: str | None) -> None:
        asked.append((ticket, subject))
        if ticket != "open-sesame":
            raise RemoteError("no ticket for this house")

    async def main() -> bytes:
        reader = BlobReader()
        try:
            async with serving(store, gate) as (url, _, server):
                with pytest.raises(RemoteError, match="403: no ticket for this house"):
                    await reader.read(url, Digest("0" * 64), 0, 1)
                assert server.refused == 1
                return await reader.read(url, DIGEST, 0, 3, ticket="open-sesame")
        finally:
            await reader.close()

    assert asyncio.run(main()) == BLOB[:3]
    assert asked == [(None, None), ("open-sesame", None)]


def test_a_ticket_of_before_a_restart_is_no_refusal(store: FolderStore) -> None:
    def gate(ticket: str | None, subject: str | None) -> None:
        raise Unreachable("it has started again")

    async def main() -> None:
        reader = BlobReader()
        try:
            async with serving(store, gate) as (url, _, server):
                with pytest.raises(Unreachable, match="503: it has started again"):
                    await reader.read(url, DIGEST, 0, 3, ticket="old")
                assert server.refused == 0
                assert (await asyncio.to_thread(ask, url))[1]["Retry-After"] == "1"
        finally:
            await reader.close()

    asyncio.run(main())


def test_what_is_not_here_is_the_peers_fault_and_nobody_there_is_nobodys(store: FolderStore) -> None:
    async def main() -> None:
        reader = BlobReader()
        try:
            async with serving(store) as (url, _, _):
                with pytest.raises(RemoteError, match=r"404: blob 0{12}\.\.\. is not here"):
                    await reader.read(url, Digest("0" * 64), 0, 1)
                with pytest.raises(RemoteError, match="416"):
                    await reader.read(url, DIGEST, len(BLOB), len(BLOB) + 1)
                with pytest.raises(RemoteError, match=r"sends bytes \(5, 3145728\)"):
                    await reader.read(url, DIGEST, 5, len(BLOB) + 1)
                assert await reader.read(url, DIGEST, 0, 5) == BLOB[:5]
            with pytest.raises(Unreachable, match="refused"):
                await reader.read(f"http://127.0.0.1:{free_port()}", DIGEST, 0, 1)
            for wrong in ("127.0.0.1:1", "ftp://127.0.0.1", "http://", "http://x:99999", "http://x:1/\r\nHost: y"):
                with pytest.raises(ConfigError, match="not an address"):
                    await reader.read(wrong, DIGEST, 0, 1)
            with pytest.raises(ConfigError, match="needs certificates"):
                await reader.read("https://127.0.0.1:1", DIGEST, 0, 1)
        finally:
            await reader.close()

    asyncio.run(main())


def test_connections_are_kept_and_a_restarted_server_is_dialled_again(store: FolderStore) -> None:
    async def main() -> None:
        reader = BlobReader()
        try:
            async with serving(store) as (url, door, _):
                for at in range(20):
                    assert await reader.read(url, DIGEST, at, at + 1) == BLOB[at : at + 1]
                assert door.connections == 1
                port = urlsplit(url).port
            from aiohttp import web

            from kuberml.worlds.live.blobs.door import Door
            from kuberml.worlds.live.blobs.server import BlobServer

            app = web.Application()
            app.add_routes(BlobServer(store, lambda ticket, subject: None).routes())
            again = Door(app)
            await again.open("127.0.0.1", port or 0)
            try:
                assert await reader.read(url, DIGEST, 0, 9) == BLOB[:9]
            finally:
                await again.close()
        finally:
            await reader.close()

    asyncio.run(main())


@pytest.mark.parametrize("side", ["server", "client"])
def test_a_bandwidth_limit_holds_on_either_side(store: FolderStore, side: str) -> None:
    limit = 2 << 20

    async def main() -> float:
        reader = BlobReader(limit_bytes_s=limit if side == "client" else None)
        try:
            async with serving(store, limit_bytes_s=limit if side == "server" else None) as (url, _, _):
                began = time.monotonic()
                half = len(BLOB) // 2
                parts = await asyncio.gather(reader.read(url, DIGEST, 0, half), reader.read(url, DIGEST, half, len(BLOB)))
                assert b"".join(parts) == BLOB
                return time.monotonic() - began
        finally:
            await reader.close()

    took_s = asyncio.run(main())
    assert len(BLOB) / limit - 0.25 < took_s < len(BLOB) / limit + 1.5


def test_a_read_that_is_cancelled_ends_at_once(store: FolderStore) -> None:
    async def main() -> float:
        reader = BlobReader()
        try:
            async with serving(store, limit_bytes_s=1000) as (url, _, _):
                task = asyncio.create_task(reader.read(url, DIGEST, 0, len(BLOB)))
                await asyncio.sleep(0.2)
                began = time.monotonic()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await reader.close()  # waits for the thread
                return time.monotonic() - began
        finally:
            await reader.close()

    assert asyncio.run(main()) < 1.0
