"""Who is kept out of a hub, and how: real hubs, real sockets, real certificates, one test for each way in.

Crowds and slow peers are in test_crowds; limits, rolls and certificates by themselves in trust/.
"""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import time
from pathlib import Path

import aiohttp
import msgspec
import numpy as np
import pytest
import zenoh
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kuberml.core import canonical
from kuberml.core.errors import ConfigError, RemoteError, Unreachable
from kuberml.core.ids import NodeId
from kuberml.exchange import wire
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.pack import make
from kuberml.knowledge.signing import Keys, sign_card
from kuberml.worlds.live import names
from kuberml.worlds.live.blobs.tls import Tls
from kuberml.worlds.live.envelope import Answer, Request, Voice, opened
from kuberml.worlds.live.hub.process import HubProcess
from kuberml.worlds.live.names import HUB
from kuberml.worlds.live.session import client, open_session
from kuberml.worlds.live.trust.certificates import LOCAL, certify, make_authority
from kuberml.worlds.live.trust.edits import admitting
from kuberml.worlds.live.trust.keyring import Keyring
from kuberml.worlds.live.trust.realm import change
from kuberml.worlds.live.trust.roll import RIGHTS, Roll, sign_roll
from kuberml.worlds.live.world import LiveWorld
from kuberml.worlds.member.keyfile import keys_in
from tests.cli.live import hub as hub_apart
from tests.cli.live import kuberml
from tests.worlds.live.test_crowds import rss_bytes
from tests.worlds.live.test_world import PATIENCE_S, WANT, node, weights
from tests.worlds.live.town import hub, keys_of, member

SOON_S = 3.0
"""Patience with a door that stays shut."""


async def refused_entry(world: LiveWorld) -> str:
    """Why a node does not get in."""
    with pytest.raises((Unreachable, RemoteError)) as error:
        await world.enter(SOON_S)
    return str(error.value)


# --- certificates -------------------------------------------------------------------------------------------------------------


def tls_of(authority: Path, folder: Path, name: str, key: str) -> Tls:
    return Tls(*certify(authority, folder, name, key=key, hosts=LOCAL))


def test_without_a_certificate_of_the_owner_nobody_gets_in_and_no_hub_is_believed(tmp_path: Path) -> None:
    ours, rogue = (make_authority(tmp_path / name, "ward").parent for name in ("ca", "rogue-ca"))
    of_hub = tls_of(ours, tmp_path / "hub-tls", "hub", keys_in(tmp_path / "hub.key").public)
    of_anna = tls_of(ours, tmp_path / "anna-tls", "anna", keys_of("anna").public)
    of_boris = tls_of(ours, tmp_path / "boris-tls", "boris", keys_of("boris").public)
    forged = tls_of(rogue, tmp_path / "mallory-tls", "anna", keys_of("mallory").public)
    half = Tls(of_anna.ca, forged.cert, forged.key)  # knows our authority, shows a certificate of another

    async def main() -> None:
        async with hub(tmp_path / "hub", tls=of_hub) as at:
            assert at.address.startswith("tls/")
            async with (
                member(at, "anna", tmp_path, tls=of_anna, serve_http="127.0.0.1:0") as anna,
                member(at, "boris", tmp_path, tls=of_boris) as boris,
            ):
                await anna.enter(PATIENCE_S)
                await boris.enter(PATIENCE_S)
                await node(anna).publish(weights(), slot="model", version=0)
                found = await node(boris).find(WANT)
                assert np.array_equal((await node(boris).fetch(found[0])).tensors["w"], weights().tensors["w"])
            outsiders = {
                "bare": (at.address, None),
                "plain": (at.address.replace("tls/", "tcp/"), None),
                "forged": (at.address, forged),
                "half": (at.address, half),
            }

            async def tried(name: str, address: str, tls: Tls | None) -> str:
                async with member(address, name, tmp_path, tls=tls) as outside:
                    return await refused_entry(outside)

            said = await asyncio.gather(*(tried(name, *how) for name, how in outsiders.items()))
            assert ["no hub answered" in why for why in said] == [True] * 4, said
            assert set(at.members) == {"anna", "boris"}
            for context in (None, half.client_context(), forged.client_context()):
                connector = aiohttp.TCPConnector(ssl=context if context is not None else True)
                async with aiohttp.ClientSession(connector=connector) as session:
                    with pytest.raises(aiohttp.ClientError):
                        await session.get(f"{at.http_url}/v1/blobs/{'0' * 64}")
        async with hub(tmp_path / "false-hub", tls=forged) as false, member(false, "clara", tmp_path, tls=of_anna) as clara:
            assert "no hub answered" in await refused_entry(clara)
            assert false.members == {}

    asyncio.run(main())


# --- realms and revocation ----------------------------------------------------------------------------------------------------


async def echo(asker: NodeId, body: bytes) -> bytes:
    return body


def test_a_revoked_key_is_refused_within_five_seconds_by_the_hub_and_by_every_node(tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "kuberml-hub"
    folder.parent.mkdir()
    assert kuberml(tmp_path, "keys", "realm", "listed", "--hub", folder)[0] == 0
    for name in ("anna", "boris"):
        assert kuberml(tmp_path, "keys", "admit", keys_of(name).public, name, "--hub", folder)[0] == 0

    whys: list[str] = []

    async def gone_s(began_s: float, tried: object) -> float:
        while time.monotonic() - began_s < PATIENCE_S:
            try:
                await tried()  # type: ignore[operator]
            except (RemoteError, Unreachable) as error:
                whys.append(str(error))
                return time.monotonic() - began_s
            await asyncio.sleep(0.02)
        raise AssertionError(f"still let in: {tried} {whys}")

    async def main(address: str) -> dict[str, float]:
        async with (
            member(address, "anna", tmp_path, serve_http="127.0.0.1:0") as anna,
            member(address, "boris", tmp_path, serve_http="127.0.0.1:0") as boris,
        ):
            await anna.enter(PATIENCE_S)
            await boris.enter(PATIENCE_S)
            boris.transport.serve("echo", echo)
            published = await node(boris).publish(weights(), slot="model", version=0)
            blob = published.signed.card.blobs[0]

            async def find() -> None:
                await anna.transport.ask(HUB, "find", wire.write(wire.Query(WANT)), timeout_s=2)

            async def ask() -> None:
                assert await anna.transport.ask(NodeId("boris"), "echo", b"x", timeout_s=2) == b"x"

            async def read() -> None:
                await anna.transport.read(NodeId("boris"), blob.digest, 0, 16, timeout_s=2)

            async def be_seen() -> None:
                if NodeId("anna") not in boris.transport.alive():
                    raise Unreachable("anna is not seen any more")

            ways = {"find at the hub": find, "ask a node": ask, "read from a node": read, "be seen": be_seen}
            for way in ways.values():
                await way()
            status, _, err = await asyncio.to_thread(kuberml, tmp_path, "keys", "revoke", "anna", "--hub", folder)
            began_s = time.monotonic()
            assert status == 0, err
            waits_s = await asyncio.gather(*(gone_s(began_s, way) for way in ways.values()))
            await node(boris).find(WANT)
            return dict(zip(ways, waits_s, strict=True))

    with hub_apart(tmp_path / "hub", "--quiet") as running:
        waits_s = asyncio.run(main(running["address"]))
    print("after `kuberml keys revoke` had ended:", ", ".join(f"{way} {wait_s:.2f} s" for way, wait_s in waits_s.items()))
    assert max(waits_s.values()) < 5


def test_who_may_not_find_is_told_so_instead_of_that_there_is_nothing(tmp_path: Path) -> None:
    async def main() -> tuple[str, str]:
        async with hub(tmp_path / "hub", policy="listed") as at:
            change(tmp_path / "hub", None, admitting(keys_of("anna").public, "anna", ("fetch",)))
            change(tmp_path / "hub", None, admitting(keys_of("boris").public, "boris", RIGHTS))
            async with member(at, "anna", tmp_path) as anna, member(at, "boris", tmp_path) as boris:
                await anna.enter(PATIENCE_S)
                await boris.enter(PATIENCE_S)
                whys = []
                for one in (node(anna), node(boris)):
                    assert await one.find(WANT) == []
                    whys.append(one.refused("find"))
                return whys[0], whys[1]

    refused, allowed = asyncio.run(main())
    assert "find" in refused
    assert allowed == ""


def test_a_node_that_lost_its_hub_believes_its_roll_no_longer_than_stated(tmp_path: Path) -> None:
    async def main() -> None:
        async with member("127.0.0.1:9", "alone", tmp_path) as probe:
            assert "no hub answered" in await refused_entry(probe)
        async with hub(tmp_path / "hub", policy="listed") as at:
            for name in ("anna", "boris"):
                change(tmp_path / "hub", None, admitting(keys_of(name).public, name, RIGHTS))
            change(tmp_path / "hub", None, lambda roll: msgspec.structs.replace(roll, max_stale_s=2))
            await asyncio.sleep(1)
            ring = Keyring(tmp_path / "ring")
            trust = ring.trust_in("default")
            boris_door = member(at, "boris", tmp_path, serve_http="127.0.0.1:0", trust=trust)
            async with boris_door as boris, member(at, "anna", tmp_path) as anna:
                boris.transport.serve("echo", echo)
                await anna.enter(PATIENCE_S)
                await boris.enter(PATIENCE_S)
                assert await anna.transport.ask(NodeId("boris"), "echo", b"x", timeout_s=2) == b"x"
                door = await anna.transport.asking.door(NodeId("boris"), 2)
                assert door.urls
                at.stop()
                await at.transport.link.close()
                began_s = time.monotonic()
                while time.monotonic() - began_s < PATIENCE_S:
                    try:
                        await anna.transport.ask(NodeId("boris"), "echo", b"x", timeout_s=2)
                    except RemoteError as error:
                        why = str(error)
                        break
                    await asyncio.sleep(0.05)
                assert 0.5 < time.monotonic() - began_s < 4
                assert "was last confirmed" in why
            assert ring.trust_in("default").roll == trust.roll

    asyncio.run(main())


def test_a_foreign_realm_stays_outside(tmp_path: Path) -> None:
    async def main() -> None:
        async with hub(tmp_path / "hub", policy="listed") as at, member(at, "anna", tmp_path, realm="elsewhere") as foreign:
            assert "no hub answered" in await refused_entry(foreign)
            voice = Voice(NodeId("anna"), keys_of("anna"), "elsewhere")
            presence = at.transport.voice.epoch
            envelope, _ = voice.ask(HUB, presence, "find", b"")
            answer = await posted(at, "find", envelope)
            assert (answer.status, b"realm 'elsewhere'" in answer.body) == ("refused", True)
            async with member(at, "anna", tmp_path) as stranger:
                assert "is not known to be the key of" in await refused_entry(stranger)
                for name, body in (("find", wire.write(wire.Query(WANT))), ("announce", b"")):
                    with pytest.raises(RemoteError, match="is not known to be the key of"):
                        await stranger.transport.ask(HUB, name, body, timeout_s=5)
            mallory = keys_of("mallory")
            with pytest.raises(RemoteError, match="belongs to"):
                at.transport.trust.take(sign_roll(Roll("default", mallory.public, 99, 0), mallory))

    asyncio.run(main())


async def posted(at: HubProcess, name: str, envelope: bytes) -> Answer:
    async with aiohttp.ClientSession() as session:
        reply = await session.post(f"{at.http_url}/v1/ask/{name}", data=envelope)
        assert reply.status == 200, await reply.text()
        return opened(await reply.read(), Answer)


# --- replays and sizes --------------------------------------------------------------------------------------------------------


def announcement(keys: Keys, *, version: int = 0, pad: int = 0) -> tuple[bytes, str]:
    """A request `announce` by the node "anna", its card padded with facts; the card's digest."""
    knowledge = make("weights", Weights({"w": np.ones(8, np.float32)}, {"3": 10}), task="digits", slot="model",
                     version=version, learned_at_ms=version, keys=keys)  # fmt: skip
    card = knowledge.card
    if pad:
        card = msgspec.structs.replace(card, parents=tuple(f"{number:064x}" for number in range(pad)))
    signed = sign_card(card, keys)
    return wire.write(wire.Announcement(signed, NodeId("anna"))), signed.digest


def test_a_recorded_request_and_an_old_card_do_nothing_again(tmp_path: Path) -> None:
    keys = keys_of("anna")
    voice = Voice(NodeId("anna"), keys, "default")

    async def main() -> None:
        async with hub(tmp_path / "hub") as at:
            recorded = []
            for version in (0, 1):
                body, card = announcement(keys, version=version)
                envelope, _ = voice.ask(HUB, at.transport.voice.epoch, "announce", body)
                recorded.append(envelope)
                assert (await posted(at, "announce", envelope)).status == "ok"
            for envelope in recorded:
                again = await posted(at, "announce", envelope)
                assert (again.status, b"a replay" in again.body) == ("refused", True)
            old, _ = announcement(keys, version=0)
            fresh, _ = voice.ask(HUB, at.transport.voice.epoch, "announce", old)
            downgrade = await posted(at, "announce", fresh)
            assert (downgrade.status, b"older than version 1" in downgrade.body) == ("refused", True)
            changed = msgspec.structs.replace(opened(recorded[0], Request), number=99)
            async with aiohttp.ClientSession() as session:
                reply = await session.post(f"{at.http_url}/v1/ask/announce", data=canonical.encode(changed))
                assert reply.status == 400
            assert [signed.digest for signed in at.catalog.cards()] == [card]
        async with hub(tmp_path / "hub") as at:
            assert (await posted(at, "announce", recorded[1])).status == "epoch", "nothing from before a restart is good"

    asyncio.run(main())


def test_what_is_too_large_is_refused_and_costs_the_hub_no_memory(tmp_path: Path) -> None:
    keys = keys_of("anna")

    async def main(running: dict[str, str]) -> None:
        async with member(running["address"], "anna", tmp_path) as world:
            await world.enter(PATIENCE_S)
            before = rss_bytes(int(running["pid"]))
            body, _ = announcement(keys, pad=5000)  # a card of 330 kB
            with pytest.raises(RemoteError, match=r"at most|limit"):
                await world.transport.ask(HUB, "announce", body, timeout_s=5)
            for size_bytes in (4_500_000, 6_000_000, 30_000_000):
                with pytest.raises((RemoteError, Unreachable)):
                    await world.transport.ask(HUB, "announce", b"\0" * size_bytes, timeout_s=2)
            async with aiohttp.ClientSession() as session:
                reply = await session.post(f"{running['http']}/v1/ask/announce", data=io.BytesIO(b"\0" * 30_000_000))
                assert reply.status == 413
        await asyncio.to_thread(flood, running["address"])
        async with member(running["address"], "boris", tmp_path) as world:
            await world.enter(PATIENCE_S)
            assert await node(world).find(WANT) == []
            grown = rss_bytes(int(running["pid"])) - before
            print(f"after 30 MB requests and 256 MB of announcements the hub is {grown / 1e6:.0f} MB larger")
            assert grown < 96e6

    def flood(address: str) -> None:
        session = open_session(client(names.endpoints(address)))
        for number in range(4):
            session.put(
                f"{names.news_key('default', 'roll')}", bytes(64_000_000), congestion_control=zenoh.CongestionControl.DROP
            )
            time.sleep(0.1 * number)
        session.close()

    with hub_apart(tmp_path / "hub", "--quiet") as running:
        asyncio.run(main(running))


# --- secrets ------------------------------------------------------------------------------------------------------------------


def test_no_secret_key_is_in_any_other_file_or_in_a_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("KUBERML_HOME", str(tmp_path / "home"))
    ring = Keyring()
    keys = ring.create("me")
    authority = make_authority(tmp_path / "ca", "ward").parent
    of_hub = tls_of(authority, tmp_path / "hub-tls", "hub", keys.public)
    mine = tls_of(authority, tmp_path / "my-tls", "me", keys.public)

    async def main() -> None:
        options = {"keys": keys, "tls": mine, "trust": ring.trust_in("default"), "serve_http": "127.0.0.1:0"}
        async with hub(tmp_path / "hub", tls=of_hub) as at, member(at, "me", tmp_path, **options) as world:
            await world.enter(PATIENCE_S)
            await node(world).publish(weights(), slot="model", version=0)
            with pytest.raises(RemoteError):
                await world.transport.ask(HUB, "announce", b"nonsense", timeout_s=5)

    asyncio.run(main())
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    secrets = [path for path in files if path.suffix == ".key"]
    assert {path.name for path in secrets} == {"me.key", "hub.key", "owner.key", "ca.key", "hub.tls.key", "me.tls.key"}
    said = caplog.text.encode()
    for path in secrets:
        assert path.stat().st_mode & 0o777 == 0o600
        content = path.read_bytes()
        forms = forms_of(kernel_of(content))
        places = [other for other in files if other != path and any(form in other.read_bytes() for form in forms)]
        assert places == [], f"{path} is in {places}"
        assert not any(form in said for form in forms)
    (tmp_path / "hub" / "hub.key").chmod(0o640)
    with pytest.raises(ConfigError, match="others can read"):
        keys_in(tmp_path / "hub" / "hub.key")


def kernel_of(content: bytes) -> bytes:
    """The 32 bytes that are the secret itself (a PEM holds the public key too, which everybody may know)."""
    if not content.startswith(b"-----"):
        return content
    secret = serialization.load_pem_private_key(content, password=None)
    assert isinstance(secret, ec.EllipticCurvePrivateKey)
    return secret.private_numbers().private_value.to_bytes(32, "big")


def forms_of(secret: bytes) -> list[bytes]:
    """How a secret could be written down; base64 at each of the three places where it may begin."""
    shifted = [base64.b64encode(bytes(shift) + secret)[4:-4] for shift in range(3)]
    return [secret, secret.hex().encode(), secret.hex().upper().encode(), *shifted, repr(secret)[2:-1].encode()]
