"""Mutual TLS on blobs and on the router: who is let in, who is believed."""

import asyncio
import gc
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import zenoh

from kuberml.core.errors import ConfigError, InternalError, KuberError, RemoteError, Unreachable
from kuberml.core.ids import digest_of
from kuberml.vault.folder import FolderStore
from kuberml.worlds.live.blobs.client import BlobReader
from kuberml.worlds.live.blobs.served import serve_blobs
from kuberml.worlds.live.blobs.tls import Tls, key_of
from kuberml.worlds.live.blobs.windows import read_windowed
from tests.worlds.live.blob_doors import BLOB, Authority, anybody, opened, routed, serving

DIGEST = digest_of(BLOB)
ALICE, BOB = "a1" * 32, "b0" * 32


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FolderStore]:
    with FolderStore(tmp_path / "vault") as store:
        store.put(BLOB)
        yield store


@pytest.fixture
def realm(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "realm")


def read(
    store: FolderStore, holder: Tls, context: ssl.SSLContext | None, key: str | None = None
) -> tuple[bytes, list[str | None]]:
    seen: list[str | None] = []

    async def main() -> bytes:
        reader = BlobReader(ssl=context)
        try:
            async with serving(store, lambda ticket, subject: seen.append(subject), tls=holder) as (url, _, _):
                await reader.read(url, DIGEST, 0, 1, key=key, stall_s=5)
                return await reader.read(url, DIGEST, 0, len(BLOB), key=key, stall_s=5)
        finally:
            await reader.close()

    return asyncio.run(main()), seen


def test_members_read_and_the_gate_sees_whose_certificate_it_is(store: FolderStore, realm: Authority) -> None:
    holder, reader = realm.member("holder", key=BOB), realm.member("reader", key=ALICE)
    assert read(store, holder, reader.client_context()) == (BLOB, [ALICE, ALICE])
    assert read(store, holder, reader.client_context(), BOB) == (BLOB, [ALICE, ALICE])


def test_a_member_without_a_fixed_address_is_known_by_its_key(store: FolderStore, realm: Authority) -> None:
    holder, reader = realm.member("laptop", key=BOB, address=False), realm.member("reader", key=ALICE)
    assert read(store, holder, reader.client_context(by_key=True), BOB)[0] == BLOB
    with pytest.raises(RemoteError, match="is not that of key a1a1a1a1a1a1"):
        read(store, holder, reader.client_context(by_key=True), ALICE)
    with pytest.raises(RemoteError, match=r"certificate at .* is refused: IP address mismatch"):
        read(store, holder, reader.client_context())
    with pytest.raises(InternalError, match="needs the key"):
        read(store, holder, reader.client_context(by_key=True))


def test_a_reader_that_leaves_in_the_middle_troubles_nobody(
    store: FolderStore, realm: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    holder, context = realm.member("holder", key=BOB), realm.member("reader", key=ALICE).client_context()

    async def main() -> bytes:
        reader = BlobReader(ssl=context)
        try:
            async with serving(store, tls=holder, limit_bytes_s=4 << 20) as (url, _, server):
                leaving = [asyncio.create_task(reader.read(url, DIGEST, 0, len(BLOB))) for _ in range(5)]
                await asyncio.sleep(0.2)
                for task in leaving:
                    task.cancel()
                await asyncio.wait(leaving)
                await asyncio.sleep(0.2)
                assert server.open_now == 0
                return await reader.read(url, DIGEST, 0, 99, stall_s=5)
        finally:
            await reader.close()

    assert asyncio.run(main()) == BLOB[:99]
    gc.collect()
    assert caplog.records == []


def without_certificate(realm: Authority, foreign: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(realm.member("none").ca))


def of_another_realm(realm: Authority, foreign: Authority) -> ssl.SSLContext:
    stranger = foreign.member("stranger", key=ALICE)
    return Tls(realm.member("none").ca, stranger.cert, stranger.key).client_context()


def with_old_tls(realm: Authority, foreign: Authority) -> ssl.SSLContext:
    context = realm.member("old", key=ALICE).client_context()
    with pytest.warns(DeprecationWarning, match="deprecated"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


@pytest.mark.parametrize("stranger", [without_certificate, of_another_realm, with_old_tls])
def test_strangers_are_not_let_in(store: FolderStore, realm: Authority, tmp_path: Path, stranger) -> None:
    foreign = Authority(tmp_path / "foreign", "foreign")
    context = stranger(realm, foreign)
    with pytest.raises(KuberError) as caught:
        read(store, realm.member("holder", key=BOB), context)
    assert isinstance(caught.value, Unreachable | RemoteError)


def test_a_holder_of_another_realm_is_refused(store: FolderStore, realm: Authority, tmp_path: Path) -> None:
    foreign = Authority(tmp_path / "foreign", "foreign")
    with pytest.raises(RemoteError, match=r"certificate at .* is refused"):
        read(store, foreign.member("holder", key=BOB), realm.member("reader").client_context())


def test_files_that_do_not_fit_are_the_users(realm: Authority, tmp_path: Path) -> None:
    one, other = realm.member("one"), realm.member("other")
    with pytest.raises(ConfigError, match=r"no file .*gone"):
        Tls(one.ca, one.cert, tmp_path / "gone").server_context()
    with pytest.raises(ConfigError, match="cannot use"):
        Tls(one.ca, one.cert, other.key).client_context()


def test_a_certificate_names_one_key_or_none() -> None:
    def names(*uris: str) -> dict[str, object]:
        return {"subjectAltName": (("DNS", "x"), *(("URI", uri) for uri in uris))}

    assert key_of(names(f"kuberml:{ALICE}")) == ALICE
    for wrong in (None, {}, names(), names(f"kuberml:{ALICE}", f"kuberml:{BOB}"), names("kuberml:zz"), names(ALICE)):
        assert key_of(wrong) is None


def test_the_router_lets_in_members_only(store: FolderStore, realm: Authority, tmp_path: Path) -> None:
    hub, one, other = (realm.member(name) for name in ("hub", "one", "other"))
    with routed((hub, one, other)) as (holder, reader):
        serving_blobs = serve_blobs(holder, "kuberml/1/r/blob/one", store, anybody)
        assert asyncio.run(read_windowed(reader, f"kuberml/1/r/blob/one/{DIGEST}", 0, len(BLOB), stall_s=5)) == BLOB
        serving_blobs.close()
        where = str(next(iter(reader.info.links())).dst)
        assert where.startswith("tls/")
        stranger = Authority(tmp_path / "foreign", "foreign").member("stranger")
        stranger = Tls(hub.ca, stranger.cert, stranger.key)
        with pytest.raises(zenoh.ZError):  # noqa: SIM117
            with opened(mode="client", **{"connect/endpoints": [where], "connect/timeout_ms": 1500}, **stranger.zenoh()):
                pass
