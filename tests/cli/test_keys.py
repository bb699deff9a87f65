"""`kuberml keys`: what each command does to files, what it prints, and that no secret is ever among it."""

import base64
import json

import pytest

from kuberml.worlds.live.trust.realm import Realm, roll_in
from kuberml.worlds.member.keyfile import keys_in

COMMANDS = ["create", "show", "trust", "revoke", "admit", "realm", "ca", "certify", "request", "party", "agree", "sign"]
KEY = "ab" * 32


@pytest.fixture
def home(monkeypatch, tmp_path):
    """The keyring of these tests."""
    monkeypatch.setenv("KUBERML_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_with_an_example(cli, command):
    status, out, _ = cli("keys", command, "--help")
    assert status == 0
    assert f"kuberml keys {command}" in out.split("Example", 1)[1]


def test_create_and_show(cli, home):
    status, out, err = cli("keys", "create", "me")
    assert status == 0
    key = out.strip()
    assert len(bytes.fromhex(key)) == 32
    assert str(home / "keys" / "me.key") in err
    assert (home / "keys" / "me.key").stat().st_mode & 0o777 == 0o600
    assert cli("keys", "show", "me")[1].strip() == key
    assert key in cli("keys", "show")[1]
    assert json.loads(cli("keys", "show", "--json")[1])["own"] == {"me": key}
    status, _, err = cli("keys", "create", "me")
    assert status == 2
    assert "never written over" in err
    status, _, err = cli("keys", "show", "mee")
    assert status == 2
    assert "did you mean 'me'" in err


def test_trust_and_revoke_for_oneself(cli, home):
    assert cli("keys", "trust", KEY, "anna")[0] == 0
    assert cli("keys", "trust", "anna", "--owner-of", "ward-7", "--hub-of", "ward-8")[0] == 0
    known = json.loads(cli("keys", "show", "--json")[1])["known"]
    assert known == {"trusted": {KEY: "anna"}, "refused": [], "owners": {"ward-7": KEY}, "hubs": {"ward-8": KEY}}
    assert json.loads(cli("keys", "revoke", "anna", "--json")[1]) == {"key": KEY}
    known = json.loads(cli("keys", "show", "--json")[1])["known"]
    assert (known["trusted"], known["refused"]) == ({}, [KEY])
    for wrong, why in ((("trust", KEY), "trust it as what?"), (("trust", "nobody", "x"), "64 hex characters")):
        status, _, err = cli("keys", *wrong)
        assert status == 2
        assert why in err


def test_a_realm_from_its_founding_to_a_revocation(cli, home, tmp_path):
    hub = tmp_path / "hub"
    assert cli("keys", "realm", "listed", "--hub", hub, "--name", "ward-7", "--max-stale-s", "30")[0] == 0
    running = Realm(hub, "ward-7", keys_in(hub / "hub.key").public)
    assert (running.signed.roll.policy, running.signed.roll.max_stale_s) == ("listed", 30)
    assert cli("keys", "admit", KEY, "anna", "--hub", hub, "--may", "fetch", "--may", "find")[0] == 0
    assert running.refresh()
    assert running.signed.roll.members[KEY].rights == ("find", "fetch")
    out, err = cli("keys", "show", "--hub", hub)[1:]
    assert "anna" in out
    assert "realm 'ward-7', listed, roll 2" in err
    status, _, err = cli("keys", "admit", "cd" * 32, "anna", "--hub", hub)
    assert status == 2
    assert "belongs to abababababab" in err
    status, _, err = cli("keys", "admit", KEY, "anna", "--hub", hub, "--may", "fetsh")
    assert status == 2
    assert "did you mean 'fetch'" in err
    assert json.loads(cli("keys", "revoke", "anna", "--hub", hub, "--json")[1]) == {"key": KEY, "serial": 3}
    assert running.refresh()
    assert running.trust.revoked(KEY)
    assert KEY not in running.signed.roll.members
    assert cli("keys", "admit", KEY, "anna", "--hub", hub)[0] == 0
    assert cli("keys", "realm", "open", "--hub", hub)[0] == 0
    assert json.loads(cli("keys", "show", "--hub", hub, "--json")[1])["revoked"] == []
    assert roll_in(hub).roll.serial == 5


def test_an_owner_whose_key_is_not_on_the_hubs_machine(cli, home, tmp_path):
    hub = tmp_path / "hub"
    me = cli("keys", "create", "me")[1].strip()
    cli("keys", "create", "other")
    assert cli("keys", "realm", "known", "--hub", hub, "--owner", "me")[0] == 0
    assert roll_in(hub).roll.owner == me
    assert not (hub / "owner.key").exists()
    assert cli("keys", "revoke", KEY, "--hub", hub)[0] == 2
    status, _, err = cli("keys", "revoke", KEY, "--hub", hub, "--owner", "other")
    assert status == 2
    assert "belongs to" in err
    assert cli("keys", "revoke", KEY, "--hub", hub, "--owner", "me")[0] == 0
    status, _, err = cli("keys", "revoke", "me", "--hub", hub, "--owner", "me")
    assert status == 2
    assert "a realm's owner is not revoked" in err


def test_whom_a_revoked_key_let_in_goes_with_it_if_asked(cli, home, tmp_path):
    hub = tmp_path / "hub"
    cli("keys", "realm", "known", "--hub", hub)
    cli("keys", "admit", KEY, "anna", "--hub", hub)
    realm = Realm(hub, "default", keys_in(hub / "hub.key").public)
    realm.vouch("anna", "cd" * 32, "boris")
    realm.vouch("boris", "ef" * 32, "clara")
    assert cli("keys", "revoke", "anna", "--hub", hub, "--with-vouched")[0] == 0
    assert roll_in(hub).roll.revoked == (KEY, "cd" * 32, "ef" * 32)


@pytest.mark.parametrize("days", ["nan", "inf", "0", "-3", "1e300"])
def test_an_agreement_holds_for_days_that_can_be(cli, home, tmp_path, days):
    status, _, err = cli("keys", "agree", "a.party", "b.party", "--out", tmp_path / "x", "--days", days)
    assert status == 2
    assert f"--days {float(days):g}: more than 0" in err


def test_certificates(cli, home, tmp_path):
    assert json.loads(cli("keys", "ca", "ward-7", "--out", tmp_path / "ca", "--json")[1])["ca"].endswith("ca.pem")
    certify = ("keys", "certify", "anna", "--key", KEY, "--ca", tmp_path / "ca", "--host", "ward.example")
    assert cli(*certify, "--out", tmp_path / "one")[0] == 0
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["anna.pem", "anna.tls.key", "ca.pem"]
    request = json.loads(cli("keys", "request", "anna", "--out", tmp_path / "two", "--json")[1])["request"]
    assert cli(*certify, "--out", tmp_path / "two", "--request", request)[0] == 0
    status, _, err = cli(*certify, "--out", tmp_path / "three", "--request", tmp_path / "none")
    assert status == 2
    assert "cannot read the request" in err


def test_no_secret_is_ever_printed_or_written_elsewhere(cli, home, tmp_path):
    hub = tmp_path / "hub"
    printed = ""
    for arguments in (
        ("create", "me"), ("show",), ("show", "me"), ("show", "--json"), ("realm", "known", "--hub", hub),
        ("admit", KEY, "anna", "--hub", hub), ("show", "--hub", hub, "--json"), ("ca", "ward", "--out", tmp_path / "ca"),
        ("certify", "anna", "--key", KEY, "--ca", tmp_path / "ca", "--out", tmp_path / "tls"), ("create", "me"),
    ):  # fmt: skip
        printed += "".join(cli("keys", *arguments)[1:])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    secret = [path for path in files if path.suffix == ".key"]
    assert {path.name for path in secret} == {"me.key", "hub.key", "owner.key", "ca.key", "anna.tls.key"}
    for path in secret:
        assert path.stat().st_mode & 0o777 == 0o600
        content = path.read_bytes()
        kernel = content.splitlines()[1] if content.startswith(b"-----") else content
        forms = {kernel, kernel.hex().encode(), base64.b64encode(kernel), base64.urlsafe_b64encode(kernel)}
        for form in forms:
            assert form not in printed.encode()
            assert [other for other in files if other != path and form in other.read_bytes()] == []
