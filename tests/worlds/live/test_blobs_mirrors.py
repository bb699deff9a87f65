"""Dumb mirrors: a folder behind any web server, a bucket behind a real S3 server; nobody there knows what kuberml is."""

import asyncio
import contextlib
import datetime
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from kuberml.core.errors import ConfigError, MissingExtra, RemoteError, Unreachable
from kuberml.core.ids import Digest, digest_of
from kuberml.knowledge.card import decode_card, encode_card
from kuberml.vault.folder import FolderStore
from kuberml.worlds.live.blobs import client
from kuberml.worlds.live.blobs.client import BlobReader
from kuberml.worlds.live.blobs.mirror import Folder, blob_path, card_path, mirror, place_at
from tests.cli.conftest import cli  # noqa: F401 - a fixture
from tests.knowledge.packets import packet, publish
from tests.worlds.live.blob_doors import BLOB, free_port

DIGEST = digest_of(BLOB)


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    with FolderStore(tmp_path / "vault") as store:
        store.put(BLOB)
    return tmp_path / "vault"


def read(url: str, start: int, stop: int, digest: Digest = DIGEST, stall_s: float = 10.0) -> bytes:
    async def main() -> bytes:
        reader = BlobReader()
        try:
            return await reader.read_mirror(url, digest, start, stop, stall_s=stall_s)
        finally:
            await reader.close()

    return asyncio.run(main())


@contextlib.contextmanager
def process(*command: str, port: int) -> Iterator[None]:
    """A server in its own process, from when it listens until the end of the block."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            for _ in range(300):
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                time.sleep(0.05)
            yield
        finally:
            running.kill()


def test_a_server_with_ranges_gives_ranges(vault: Path) -> None:
    async def main() -> None:
        app = web.Application()
        app.add_routes([web.static("/pub/kuberml", vault)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        reader = BlobReader()
        try:
            for base in (f"http://127.0.0.1:{port}/pub/kuberml", f"http://127.0.0.1:{port}/pub/kuberml/?signature=abc%2F"):
                assert await reader.read_mirror(base, DIGEST, 5, 5000) == BLOB[5:5000]
            with pytest.raises(RemoteError, match="answers 404"):
                await reader.read_mirror(f"http://127.0.0.1:{port}/pub/kuberml", Digest("0" * 64), 0, 1)
        finally:
            await reader.close()
            await runner.cleanup()

    asyncio.run(main())


def test_a_server_without_ranges_is_read_whole_or_refused(vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    command = (sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(vault))
    with process(*command, port=port):
        assert read(f"http://127.0.0.1:{port}", 5, 5000) == BLOB[5:5000]
        with pytest.raises(RemoteError, match=f"has only {len(BLOB)} bytes"):
            read(f"http://127.0.0.1:{port}", 5, len(BLOB) + 1)
        monkeypatch.setattr(client, "WHOLE_BYTES", len(BLOB) - 1)
        with pytest.raises(RemoteError, match=f"does not serve ranges: it sends all {len(BLOB)} bytes"):
            read(f"http://127.0.0.1:{port}", 5, 5000)


def test_a_folder_gets_what_is_new(vault: Path, tmp_path: Path, cli) -> None:  # noqa: F811
    target = tmp_path / "www"
    status, out, err = cli("mirror", vault, target, "--json")
    assert (status, json.loads(out)) == (0, {"target": str(target), "new": 1, "new_bytes": len(BLOB), "known": 0})
    assert (target / blob_path(DIGEST)).read_bytes() == BLOB
    with FolderStore(vault) as store:
        store.put(b"another")
    (target / blob_path(DIGEST)).write_bytes(b"half of")  # as an interrupted copy by other means leaves it
    status, out, err = cli("mirror", vault, target)
    assert (status, err.splitlines()[-1]) == (0, f"{target}: 2 new ({len(BLOB) + 7} bytes), 0 were there")
    assert sorted(path.name for path in target.rglob("*") if path.is_file()) == sorted([DIGEST, digest_of(b"another")])
    assert cli("mirror", vault, "ftp://x/y")[0] == 2
    assert cli("mirror", tmp_path / "none", target)[0] == 2


def test_cards_go_along_after_their_blobs(tmp_path: Path) -> None:
    package = publish(packet(1))
    signed, blobs = package.signed, package.blobs
    order: list[str] = []
    with FolderStore(tmp_path / "vault") as store:
        for blob in blobs:
            store.put(blob)
        store.put_card(signed.digest, encode_card(signed))
        mirror(store, Folder(tmp_path / "www"), lambda path, size_bytes: order.append(path))
    assert decode_card((tmp_path / "www" / card_path(signed.digest)).read_bytes()) == signed
    assert order[-1] == card_path(signed.digest)


def test_without_the_extra_it_says_which_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(MissingExtra, match=r"kuberml\[s3\]"):
        place_at("s3://bucket/prefix")
    with pytest.raises(MissingExtra, match=r"kuberml\[s3\]"):
        read("s3://bucket/prefix", 0, 1)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A real S3 server on loopback, with a bucket that is called like one of ours; its http address."""
    pytest.importorskip("obstore", reason="the extra s3 is not installed")
    pytest.importorskip("moto.server", reason="moto[server] is not installed")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with process(sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port), port=port):
        urllib.request.urlopen(urllib.request.Request(f"{url}/knowledge", method="PUT")).close()
        for name, text in (
            ("ACCESS_KEY_ID", "reader"),
            ("SECRET_ACCESS_KEY", "secret"),
            ("REGION", "us-east-1"),
            ("ENDPOINT_URL", url),
            ("ALLOW_HTTP", "true"),
        ):
            monkeypatch.setenv(f"AWS_{name}", text)
        yield url


def test_a_bucket_is_filled_and_read_with_and_without_credentials(vault: Path, s3: str, cli) -> None:  # noqa: F811
    status, out, err = cli("mirror", vault, "s3://knowledge/of/us", "--json")
    assert status == 0, err
    assert json.loads(out)["new"] == 1
    assert json.loads(cli("mirror", vault, "s3://knowledge/of/us", "--json")[1])["known"] == 1
    assert read("s3://knowledge/of/us", 100, 2_000_000) == BLOB[100:2_000_000]
    assert read("s3://knowledge/of/us", 5, 5) == b""
    with pytest.raises(RemoteError, match="has no blobs/00"):
        read("s3://knowledge/of/us", 0, 1, Digest("0" * 64))
    with pytest.raises(RemoteError, match=r"bytes of .* came"):
        read("s3://knowledge/of/us", 100, len(BLOB) + 1)

    import obstore

    bucket = obstore.store.S3Store.from_url("s3://knowledge/of/us", client_options={"allow_http": True})
    signed = obstore.sign(bucket, "GET", blob_path(DIGEST), datetime.timedelta(minutes=5))
    with pytest.raises(RemoteError, match="answers 403"):
        read(f"{s3}/knowledge/of/us", 100, 200)
    assert read(f"{s3}/knowledge/of/us?{urlsplit(signed).query}", 100, 2_000_000) == BLOB[100:2_000_000]


def test_a_bucket_that_is_not_there_is_nobodys_fault_and_a_wrong_name_the_users(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="is not s3://bucket"):
        read("s3://UPPER CASE", 0, 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Unreachable) as caught:
        read("s3://knowledge/of/us", 0, 1, stall_s=1.0)
    assert "secret" not in str(caught.value)
