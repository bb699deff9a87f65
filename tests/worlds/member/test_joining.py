"""Before anything is learned: which place is meant, who one is there, and who says what everybody agrees on."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kuberml
from kuberml.core.errors import ConfigError
from kuberml.vault.folder import FolderStore
from kuberml.worlds.member.meeting import is_address, where_to
from kuberml.worlds.member.naming import known_as

X_N, Y_N = np.eye(40, 4, dtype=np.float32), np.arange(40) % 2


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:7447", "hub.example:7447", "tcp/hub-1:1", "tls/hub.example:7447", "[::1]:7447", "a:1,b:2", "a:1, tls/b:2"],
)
def test_an_address_is_a_hub(address):
    assert is_address(address)
    assert where_to(address) == address


@pytest.mark.parametrize("path", ["shared", "./a:1", "/srv/a:80", "a:b", "a:123456", "C:/x", "udp/a:1", "a:1,b"])
def test_everything_else_is_a_folder(path):
    assert where_to(path) == Path(path)


def test_the_place_comes_from_the_environment_where_a_program_names_none(monkeypatch):
    monkeypatch.setenv("KUBERML_HUB", "127.0.0.1:7447")
    assert where_to(None) == "127.0.0.1:7447"
    assert where_to("shared") == Path("shared")
    monkeypatch.delenv("KUBERML_HUB")
    with pytest.raises(ConfigError, match=r"kuberml join --hub .* sets \$KUBERML_HUB"):
        where_to(None)


def test_the_same_program_with_the_same_arguments_is_the_same_member(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/home/me/learner.py", "5", "6"])
    first = known_as()
    assert first == known_as()._replace(keys=first.keys)
    assert (first.node, first.vault) == (f"learner-5-6-{first.keys.public[:4]}", Path("learner-5-6.vault"))
    assert first.key.stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr(sys, "argv", ["/home/me/learner.py", "5", "7"])
    assert known_as().node != first.node
    monkeypatch.setattr(sys, "argv", ["/home/me/my learner.py", "--data", "/a/b", "x" * 100])
    assert known_as().node.startswith("my-learner-")
    monkeypatch.setenv("KUBERML_NAME", "ward-3")
    assert known_as().node == "ward-3"
    assert known_as("ward-4").vault == Path("ward-4.vault")
    assert known_as(stem="commons").node.startswith("commons-")


def test_a_name_that_cannot_be_leaves_no_key_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBERML_NAME", "a b")
    with pytest.raises(ConfigError, match="not a node id"):
        known_as()
    assert list(tmp_path.iterdir()) == []


def test_every_program_may_begin_with_agree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBERML_HUB", "shared")
    same = {"task": "t", "labels": ["a", "b"], "x": X_N, "y": Y_N}
    assert kuberml.agree(**same)
    assert kuberml.agree(**same)  # the same keys again: the same packages
    assert not kuberml.agree(**same, key="other.key")
    assert kuberml.agree(**{**same, "task": "another"}, key="other.key")
    with FolderStore(tmp_path / "shared") as store:
        assert len(list(store.cards())) == 4
    with kuberml.join(task="t", labels=["a", "b"], data=(X_N, Y_N)) as me:
        assert me.is_agreed()
        assert me.statistics().gram_dd.shape == (5, 5)


def test_two_may_agree_at_once(tmp_path):
    code = (
        "import numpy as np, kuberml, sys\n"
        "print(kuberml.agree('shared', task='t', labels=['a', 'b'], x=np.eye(40, 4), y=np.arange(40) % 2, key=sys.argv[1]))\n"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    running = [
        subprocess.Popen([*command, key], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for key in ("one.key", "one.key", "two.key")
    ]
    said = [process.communicate() for process in running]
    assert [errors for _, errors in said] == [""] * 3
    assert "True\n" in [out for out, _ in said]
    with FolderStore(tmp_path / "shared") as store:
        blobs = {ref.digest for name in store.cards() for ref in _card(store, name).blobs}
    assert len(blobs) == 2  # whoever came first: one extractor, one probe


def _card(store, name):
    from kuberml.knowledge.card import decode_card

    return decode_card(store.card(name)).card


def test_who_has_two_tasks_replaces_nothing_of_the_first_by_the_second(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBERML_HUB", "shared")
    for task, x_N in (("first", X_N), ("second", X_N), ("third", X_N[:, ::-1])):
        kuberml.agree(task=task, labels=["a", "b"], x=x_N, y=Y_N)
        with kuberml.join(task=task, labels=["a", "b"], data=(X_N, Y_N), name="ward") as me:
            me.publish(me.statistics())
    for task in ("first", "second", "third"):
        with kuberml.join(task=task, labels=["a", "b"], data=(X_N, Y_N), name="other") as other:
            assert other.is_agreed()
            assert [offer.signed.card.task for offer in other.want()] == [task]


def test_whose_name_is_listed_may_agree_under_it_and_use_what_it_published(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBERML_HUB", "shared")
    assert kuberml.agree(task="t", labels=["a", "b"], x=X_N, y=Y_N, name="ward")
    with kuberml.join(task="t", labels=["a", "b"], data=(X_N, Y_N), name="ward") as me:
        assert me.statistics().gram_dd.shape == (5, 5)
        assert len(me.lesson()[0]) == len(X_N)
