"""`kuberml publish|find|fetch|forget` against a real hub, as separate processes in which torch cannot be imported."""

import json
import re
import shlex
import signal
import time

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from kuberml.cli.packing import counts
from kuberml.core.errors import ConfigError
from kuberml.knowledge.card import Knowledge, Terms, decode_card, encode_card
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.pack import make, open_value
from kuberml.vault.folder import FolderStore
from kuberml.worlds.live.names import free_port
from kuberml.worlds.member.keyfile import keys_in
from tests.cli.live import hub, kuberml, start


@pytest.fixture(scope="module")
def without_torch(tmp_path_factory):
    """A folder of modules in which torch and its like end the process that imports them."""
    folder = tmp_path_factory.mktemp("without")
    for name in ("torch", "sklearn", "matplotlib"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')\n")
    return str(folder)


@pytest.fixture(scope="module")
def address(tmp_path_factory, without_torch):
    with hub(tmp_path_factory.mktemp("hub"), modules=without_torch) as running:
        yield running["address"]


def vault(folder, slot, *, version=0, terms=None, size=300_000):
    """A vault with one package of weights, by the key in me.key: the digest of its card."""
    content = Weights({"w": np.arange(size, dtype=np.float32) + version}, {"3": 120, "8": 80})
    found = make(
        "weights", content, keys=keys_in(folder / "me.key"), task="digits", slot=slot, version=version, learned_at_ms=1,
        terms=terms or Terms(),
    )  # fmt: skip
    with FolderStore(folder / "mine") as store:
        for blob in found.blobs:
            store.put(blob)
        store.put_card(found.signed.digest, encode_card(found.signed))
    return found.signed.digest


def listed(folder, address, *options, modules):
    status, out, err = kuberml(folder, "find", "digits", "--hub", address, "--json", *options, modules=modules)
    assert status == 0, err
    return {row["digest"]: row["holders"] for row in json.loads(out)}


def test_what_is_published_is_found_fetched_and_taken_back(tmp_path, address, without_torch):
    def command(*arguments):
        return kuberml(tmp_path, *arguments, "--hub", address, modules=without_torch)

    card = vault(tmp_path, "there and back")
    status, _, err = command("publish", "mine", card[:8])
    assert (status, "the hub has a copy" in err) == (0, True), err
    assert "hub" in listed(tmp_path, address, "--labels", "8", modules=without_torch)[card]
    assert card not in listed(tmp_path, address, "--labels", "5", modules=without_torch)
    assert card[:12] in command("find", "digits")[1]
    status, _, err = command("fetch", card[:8], "--out", "got")
    assert status == 0, err
    assert "1.2 MB of 1.2 MB" in err
    assert "from hub" in err
    assert kuberml(tmp_path, "verify", "got")[0] == 0
    status, out, err = command("fetch", card[:8], "--out", "got", "--json")  # once more: it is here
    assert (status, json.loads(out)[0]["digest"]) == (0, card), err
    status, _, err = command("forget", card[:8], "--key", "me.key")
    assert (status, "offers it no more" in err) == (0, True), err
    assert card not in listed(tmp_path, address, modules=without_torch)
    assert command("fetch", card[:8])[0] == 2
    status, _, err = command("publish", "mine", card[:8])
    assert (status, "withdrawn by its author" in err) == (3, True), err


def test_a_file_of_tensors_is_a_package_and_its_next_version_replaces_it(tmp_path, address, without_torch):
    def save(number):
        save_file(
            {"head": np.full((7, 3), number, np.float32), "body": np.ones(70_000, np.float32)}, tmp_path / "net.safetensors"
        )

    def publish(*more, labels="3=120,8=80"):
        options = ("--task", "files", "--labels", labels, "--hub", address, "--json", *more)
        status, out, err = kuberml(tmp_path, "publish", "net.safetensors", *options, modules=without_torch)
        assert status == 0, err
        return json.loads(out)

    save(1)
    first = publish()
    assert (first["kind"], first["slot"], first["version"], first["labels"]) == ("weights", "net", 0, {"3": 120, "8": 80})
    assert publish() == first  # the same again is one
    assert publish("--licence", "CC0-1.0")["version"] == 1
    save(2)
    third = publish("--slot", "net")
    assert third["version"] == 2
    _, out, _ = kuberml(tmp_path, "find", "files", "--hub", address, "--json", modules=without_torch)
    assert [row["digest"] for row in json.loads(out)] == [third["digest"]]
    status, _, err = kuberml(tmp_path, "fetch", third["digest"], "--hub", address, "--out", "got", modules=without_torch)
    assert status == 0
    with FolderStore(tmp_path / "got") as store:
        signed = decode_card(store.card(third["digest"]))
        content = open_value(Knowledge(signed, tuple(store.get(ref.digest) for ref in signed.card.blobs)))
    np.testing.assert_array_equal(content.tensors["head"], np.full((7, 3), 2, np.float32))
    said = re.findall(r"^`kuberml (export .*)` writes the tensors as a file$", err, re.MULTILINE)
    status, _, err = kuberml(tmp_path, *said[0].split(), modules=without_torch)
    assert status == 0, err
    went, came = load_file(tmp_path / "net.safetensors"), load_file(tmp_path / "model.safetensors")
    assert went.keys() == came.keys()
    assert all(np.array_equal(went[name], came[name]) for name in went)


def test_what_is_no_file_of_tensors_is_said(cli, tmp_path):
    card = vault(tmp_path, "spoiled")
    with FolderStore(tmp_path / "mine") as store:
        (blob,) = decode_card(store.card(card)).card.blobs
    assert "cannot write none/w.safetensors" in cli("export", "mine", card, "none/w.safetensors")[2]
    path = next((tmp_path / "mine" / "blobs").rglob(blob.digest))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    status, _, err = cli("export", "mine", card, "w.safetensors")
    assert (status, "the disk gave other bytes" in err) == (70, True), err
    status, _, err = cli("export", "mine", card, "w.safetensors")
    assert (status, "are not in mine: fetch them first" in err) == (2, True), err
    assert not list(tmp_path.glob("*.safetensors*"))


def test_find_asks_the_hub_of_the_environment_where_no_vault_is_named(cli, tmp_path, address, monkeypatch):
    card = vault(tmp_path, "here")
    monkeypatch.setenv("KUBERML_HUB", address)
    assert cli("find", "nothing-such") == (0, "", f"the hub at {address} knows nothing that answers this want\n")
    status, out, err = cli("find", "mine", "digits", "--json")
    assert (status, [row["digest"] for row in json.loads(out)]) == (0, [card]), err


def test_find_says_that_there_is_more_than_it_shows(cli, tmp_path, address):
    found = {vault(tmp_path, f"one of {k}", size=10) for k in range(3)}
    for card in found:
        assert cli("publish", "mine", card[:8], "--hub", address)[0] == 0
    for where in (["digits", "--hub", address], ["mine", "digits"]):
        status, out, err = cli("find", *where, "--labels", "3", "--json", "--limit", "2")
        assert (status, len(json.loads(out))) == (0, 2), err
        assert "more match than these 2: narrow it with --labels or --kinds, or take more with --limit" in err
        status, out, err = cli("find", *where, "--json", "--limit", "600")  # more than a hub hands out at once
        assert (status, err) == (0, "")
        assert found <= {row["digest"] for row in json.loads(out)}


def test_only_its_author_takes_a_package_back(tmp_path, address, without_torch):
    card = vault(tmp_path, "not yours")
    assert kuberml(tmp_path, "publish", "mine", card[:8], "--hub", address, modules=without_torch)[0] == 0
    keys_in(tmp_path / "other.key")
    status, _, err = kuberml(tmp_path, "forget", card[:8], "--key", "other.key", "--hub", address)
    assert (status, "other.key is the key of" in err) == (2, True)
    status, _, err = kuberml(tmp_path, "forget", card[:8], "--key", "none.key", "--hub", address)
    assert (status, "there is no key none.key" in err) == (2, True)
    assert card in listed(tmp_path, address, modules=without_torch)


def test_terms_are_kept_before_a_byte_is_moved(tmp_path, address, without_torch):
    card = vault(tmp_path, "for research", terms=Terms(purposes=("research",)))
    assert kuberml(tmp_path, "publish", "mine", card[:8], "--hub", address, modules=without_torch)[0] == 0
    status, _, err = kuberml(tmp_path, "fetch", card[:8], "--hub", address, "--out", "got", modules=without_torch)
    assert (status, "it is for 'research'" in err) == (3, True)
    assert list((tmp_path / "got" / "blobs").glob("*/*")) == []
    again = ("fetch", card[:8], "--hub", address, "--out", "got", "--purpose", "research")
    assert kuberml(tmp_path, *again, modules=without_torch)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("fetch",), 2, "say what to fetch"),
        (("publish", "mine"), 2, "kuberml publish VAULT CARD"),
        (("publish", "net.pt", "--task", "t"), 2, "right is a .safetensors file"),
        (("publish", "net.safetensors", "--task", "t"), 2, "there is no file net.safetensors"),
        (("publish", "none", "3f9c"), 2, "none is not a vault"),
        (("find", "a", "b"), 2, "kuberml find VAULT TASK"),
        (("fetch", "abcd", "--limit", "fast"), 2, "not a size"),
        (("fetch", "abcd", "--tls", "none"), 2, "none has no files *.tls.key"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(cli, arguments, status, says):
    found, out, err = cli(*arguments, "--hub", "127.0.0.1:9")
    assert (found, out, err.count("\n")) == (status, "", 1), err
    assert says in err


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("fetch", "0000000000000000"), 2, "no cards begin with"),
        (("fetch", "--task", "nothing"), 3, "knows nothing that answers this want"),
    ],
)
def test_what_the_hub_does_not_have_is_said(tmp_path, address, arguments, status, says):
    found, out, err = kuberml(tmp_path, *arguments, "--hub", address)
    assert (found, out, err.count("\n")) == (status, "", 1), err
    assert says in err


def test_a_listed_realm_lets_only_the_listed_do_what_they_may(tmp_path, without_torch):
    keys_in(tmp_path / "me.key")
    card = vault(tmp_path, "a")
    with hub(tmp_path / "place", "--realm", "ward", "--policy", "listed", modules=without_torch) as running:
        here = ("--hub", running["address"], "--realm", "ward")
        assert running["policy"] == "listed"
        status, _, err = kuberml(tmp_path, "publish", "mine", card[:8], *here, "--key", "me.key")
        assert status == 3, err
        assert "Traceback" not in err
        admitted = keys_in(tmp_path / "me.key").public
        assert f"kuberml keys admit {admitted} me-" in err  # all that the owner has to be told
        folder = tmp_path / "place" / "kuberml-hub"
        assert kuberml(tmp_path, "keys", "admit", admitted, "me", "--hub", folder, "--may", "publish", "--may", "find")[0] == 0
        status, _, err = kuberml(tmp_path, "publish", "mine", card[:8], *here, "--key", "me.key", "--name", "me")
        assert status == 0, err
        assert kuberml(tmp_path, "find", "digits", *here, "--name", "me")[0] == 0
        status, _, err = kuberml(tmp_path, "find", "digits", *here)  # nobody in particular
        assert status == 3, err
        assert "give --key and --name" in err
        assert kuberml(tmp_path, "keys", "revoke", admitted, "--hub", folder)[0] == 0
        while (said := kuberml(tmp_path, "find", "digits", *here, "--name", "me"))[0] == 0:
            pass  # the hub looks at its roll each second
        assert (said[0], "is revoked in realm 'ward'" in said[2]) == (3, True), said


def test_who_may_not_find_is_told_how_the_owner_can_change_that(tmp_path, without_torch):
    """Not on the roll of a realm that lets in the known; and listed there without the right to find."""
    keys_in(tmp_path / "me.key")
    admitted = keys_in(tmp_path / "me.key").public
    with hub(tmp_path / "place", "--realm", "ward", "--policy", "known", modules=without_torch) as running:
        here = ("--hub", running["address"], "--realm", "ward")
        status, _, err = kuberml(tmp_path, "find", "digits", *here, "--key", "me.key", "--name", "me")
        assert (status, "not on the roll of realm 'ward'" in err) == (3, True), err
        assert f"`kuberml keys admit {admitted} me --hub FOLDER`" in err
        status, _, err = kuberml(tmp_path, "find", "digits", *here)  # nobody in particular
        assert (status, "give --key and --name" in err) == (3, True), err
        folder = tmp_path / "place" / "kuberml-hub"
        assert kuberml(tmp_path, "keys", "admit", admitted, "me", "--hub", folder, "--may", "publish")[0] == 0
        while "'me' may not find" not in (said := kuberml(tmp_path, "find", "digits", *here, "--name", "me"))[2]:
            assert said[0] == 3, said  # the hub looks at its roll each second
        advised = re.findall(r"`kuberml (keys admit .*) --hub FOLDER", said[2])
        rights = re.findall(r"(--may \w+)", said[2])
        assert rights == ["--may publish", "--may find"], said
        assert kuberml(tmp_path, *advised[0].split(), *" ".join(rights).split(), "--hub", folder)[0] == 0
        while (said := kuberml(tmp_path, "find", "digits", *here, "--name", "me"))[0] != 0:
            assert "may not find" in said[2], said


def test_the_command_that_find_names_fetches_as_it_stands(tmp_path, without_torch):
    keys_in(tmp_path / "me.key")
    card = vault(tmp_path, "a", terms=Terms(purposes=("our ward",)))
    with hub(tmp_path / "place", "--realm", "ward", "--policy", "listed", modules=without_torch) as running:
        folder, admitted = tmp_path / "place" / "kuberml-hub", keys_in(tmp_path / "me.key").public
        assert kuberml(tmp_path, "keys", "admit", admitted, "me", "--hub", folder)[0] == 0
        me = ("--hub", running["address"], "--realm", "ward", "--key", "me.key", "--name", "me")
        while (said := kuberml(tmp_path, "publish", "mine", card[:8], *me))[0] != 0:
            assert "keys admit" in said[2], said  # the hub looks at its roll each second
        status, _, err = kuberml(tmp_path, "find", "digits", *me, "--purpose", "our ward")
        assert status == 0, err
        named = re.findall(r"^`kuberml (fetch .*) CARD` brings one$", err, re.MULTILINE)
        status, _, err = kuberml(tmp_path, *shlex.split(named[0]), card[:8], "--out", "got")
        assert status == 0, err


@pytest.mark.parametrize("text", ["3", "3=", "3=0", "3=-1", "=4", "3=1.5"])
def test_labels_of_a_file_are_counts(text):
    assert counts("3=120, 8=80") == {"3": 120, "8": 80}
    with pytest.raises(ConfigError, match="from how many samples"):
        counts(text)


def test_labels_and_tasks_of_strangers_do_not_command_the_terminal(tmp_path):
    """A hub's log is a journal, and its catalog is everybody's: an escape sequence or a line of its own must not get there."""
    save_file({"w": np.zeros((2, 3), dtype=np.float32)}, tmp_path / "x.safetensors")
    place = tmp_path / "place"
    place.mkdir()
    port, http = (f"127.0.0.1:{free_port('127.0.0.1')}" for _ in range(2))
    running = start(place, "hub", "--listen", port, "--http", http)
    try:
        odd = ("--task", "di\x1b[31mgits\r\n+ nobody", "--labels", "3\n+ nobody\x1b[2J=12")
        status, _, told = kuberml(tmp_path, "publish", "x.safetensors", *odd, "--hub", port, "--key", "me.key")
        assert status == 0, told
        status, shown, _ = kuberml(place, "show", "kuberml-hub")
        assert status == 0
        until_s = time.monotonic() + 20
        log = ""
        while "weights of" not in log:
            assert time.monotonic() < until_s, log
            log += running.stderr.readline()
    finally:
        running.send_signal(signal.SIGTERM)
        log += running.communicate(timeout=20)[1]
    for text in (told, shown, log):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text), text
    assert "\n+ nobody" not in shown + log
    assert "di\\x1b[31mgits\\r\\n+ nobody" in log
