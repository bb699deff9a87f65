"""A user's keyring: own keys, friends, foes, pins, and rolls that do not go back over a restart."""

import threading
from pathlib import Path

import msgspec
import pytest

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import NodeId
from kuberml.worlds.live.trust.keyring import Keyring, home
from kuberml.worlds.live.trust.roll import Roll, sign_roll

from .test_roll import ANNA, BORIS, OWNER, ROLL


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBERML_HOME", str(tmp_path / "a"))
    assert home() == tmp_path / "a"
    monkeypatch.delenv("KUBERML_HOME")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "b"))
    assert home() == tmp_path / "b" / "kuberml"


def test_own_keys_by_name(tmp_path: Path) -> None:
    ring = Keyring(tmp_path / "ring")
    assert ring.names() == ()
    made = ring.create("me")
    assert Keyring(tmp_path / "ring").keys("me").public == made.public
    assert ring.names() == ("me",)
    assert (tmp_path / "ring" / "keys").stat().st_mode & 0o777 == 0o700
    with pytest.raises(ConfigError, match="is there already"):
        ring.create("me")
    with pytest.raises(ConfigError, match="did you mean 'me'"):
        ring.keys("mee")
    with pytest.raises(ConfigError, match="a key's name is letters"):
        ring.create("../me")


def test_whom_the_user_trusts_and_refuses(tmp_path: Path) -> None:
    ring = Keyring(tmp_path)
    ring.trust(ANNA.public.upper(), "anna at home")
    assert ring.known.trusted == {ANNA.public: "anna at home"}
    ring.refuse(ANNA.public)
    assert (ring.known.trusted, ring.known.refused) == ({}, (ANNA.public,))
    assert ring.trust_in("ward-7").revoked(ANNA.public)
    ring.trust(ANNA.public, "anna")
    assert not ring.trust_in("ward-7").revoked(ANNA.public)
    with pytest.raises(ConfigError, match="a public key has 64 hex characters"):
        ring.trust("anna", "anna")


def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    keys = [f"{number:064x}" for number in range(16)]
    workers = [threading.Thread(target=Keyring(tmp_path).trust, args=(key, "friend")) for key in keys]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(Keyring(tmp_path).known.trusted) == keys


def test_an_owner_is_pinned_at_first_use_and_rolls_do_not_go_back_over_a_restart(tmp_path: Path) -> None:
    first = Keyring(tmp_path).trust_in("ward-7")
    first.take(sign_roll(ROLL, OWNER))
    assert Keyring(tmp_path).known.owners == {"ward-7": OWNER.public}
    again = Keyring(tmp_path).trust_in("ward-7")
    assert again.roll == ROLL
    with pytest.raises(RemoteError, match="rolls do not go back"):
        again.take(sign_roll(msgspec.structs.replace(ROLL, serial=2), OWNER))
    with pytest.raises(RemoteError, match="belongs to"):
        again.take(sign_roll(Roll("ward-7", ANNA.public, 99, 0), ANNA))


def test_a_pinned_owner_and_a_pinned_hub_are_the_only_ones(tmp_path: Path) -> None:
    ring = Keyring(tmp_path)
    ring.trust_in("ward-7").take(sign_roll(ROLL, OWNER))
    ring.pin("ward-7", owner=ANNA.public, hub=BORIS.public)
    trust = ring.trust_in("ward-7")
    assert trust.roll is None, "the roll of the owner before is nobody's now"
    with pytest.raises(RemoteError, match="belongs to"):
        trust.take(sign_roll(ROLL, OWNER))
    assert trust.believes(NodeId("hub"), BORIS.public)
    assert not trust.believes(NodeId("hub"), ANNA.public)


def test_damage_is_named(tmp_path: Path) -> None:
    ring = Keyring(tmp_path)
    ring.trust_in("ward-7").take(sign_roll(ROLL, OWNER))
    (tmp_path / "rolls" / "ward-7.roll").write_bytes(b"?")
    with pytest.raises(ConfigError, match=r"is damaged .* remove it"):
        ring.trust_in("ward-7")
    for content in (b"{", b'{"trusted": {"\xff": ""}}', b'{"x":' + 9999 * b"["):
        (tmp_path / "keyring.json").write_bytes(content)
        with pytest.raises(ConfigError, match="is not a keyring"):
            ring.trust(ANNA.public, "anna")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="name another one by \\$KUBERML_HOME"):
        Keyring(tmp_path / "file" / "ring").create("me")
