"""Backups: taken while writers go on, whole or not there, and every byte checked on the way back."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from kuberml.core.errors import ConfigError
from kuberml.core.ids import Digest, NodeId
from kuberml.knowledge.card import Knowledge, decode_card, encode_card
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.pack import check_blob, make
from kuberml.knowledge.signing import Keys
from kuberml.vault.board import Board
from kuberml.vault.catalog import Catalog
from kuberml.vault.folder import FolderStore
from kuberml.worlds.live.hub import saved_files as module
from kuberml.worlds.live.hub.appearing import appearing
from kuberml.worlds.live.hub.backup import Summary, backup, restore
from kuberml.worlds.live.hub.saved_files import MANIFEST
from tests.vault.test_board import verdict
from tests.worlds.live.test_world import PATIENCE_S, WANT, node, until, weights
from tests.worlds.live.town import hub, member

KEYS, HUB = Keys(b"k" * 32), NodeId("hub")


def package(i: int, slot: str = "") -> Knowledge:
    content = Weights({"w": np.full(2000, i, np.float32)}, {"3": 10})
    return make("weights", content, keys=KEYS, task="digits", slot=slot or f"s{i}", version=i, learned_at_ms=i)


def fill(folder: Path, count: int = 5) -> list[Digest]:
    """A hub's folder with some packages, a verdict on each, and keys."""
    packages = [package(i) for i in range(count)]
    catalog, board = Catalog(folder / "catalog.sqlite") if folder.is_dir() else None, None
    with FolderStore(folder) as store:
        catalog, board = catalog or Catalog(folder / "catalog.sqlite"), Board(folder / "board.sqlite")
        for i, one in enumerate(packages):
            for blob in one.blobs:
                store.put(blob)
            store.put_card(one.signed.digest, encode_card(one.signed))
            catalog.add(one.signed, HUB)
            board.put(verdict(i), i)
        catalog.close()
        board.close()
    (folder / "hub.key").write_bytes(b"secret")
    (folder / "hub.key").chmod(0o600)
    return sorted(one.signed.digest for one in packages)


def check(folder: Path) -> list[Digest]:
    """What a folder holds; everything that is named is there, and is what it is named."""
    catalog = Catalog(folder / "catalog.sqlite")
    with FolderStore(folder) as store:
        kept = list(store.cards())
        for digest in kept:
            for ref in decode_card(store.card(digest)).card.blobs:
                check_blob(ref, store.get(ref.digest))
        held = {signed.digest for signed in catalog.cards() if HUB in catalog.holders(signed.digest)}
    catalog.close()
    assert held <= set(kept), "the catalog names what is not in the vault"
    return kept


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("copy", [False, True], ids=["linked", "copied"])
def test_what_was_saved_comes_back(tmp_path: Path, copy: bool) -> None:
    digests = fill(tmp_path / "hub")
    (tmp_path / "hub" / "trust").mkdir()
    (tmp_path / "hub" / "trust" / "roll").write_bytes(b"roll")
    (tmp_path / "hub" / "junk").symlink_to("/etc/passwd")
    done = backup(tmp_path / "hub", tmp_path / "saved", copy=copy)
    assert (done.cards, done.blobs, done.linked, done.left_out) == (5, 5, 0 if copy else 5, 0)
    assert stat.S_IMODE((tmp_path / "saved").stat().st_mode) == 0o700
    back = restore(tmp_path / "saved", tmp_path / "back")
    assert back == Summary(done.files, 5, 5, done.blob_bytes)
    assert check(tmp_path / "back") == digests
    assert stat.S_IMODE((tmp_path / "back" / "hub.key").stat().st_mode) == 0o600
    assert (tmp_path / "back" / "hub.key").read_bytes() == b"secret"
    assert (tmp_path / "back" / "trust" / "roll").read_bytes() == b"roll"
    assert not (tmp_path / "back" / "junk").exists()
    board = Board(tmp_path / "back" / "board.sqlite")
    assert board.size() == (5, 5)
    board.close()
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert names == {"blobs", "trust", "hub.key", MANIFEST, "index.sqlite", "catalog.sqlite", "board.sqlite"}


def test_a_backup_is_whole_while_writers_and_sweepers_go_on(tmp_path: Path) -> None:
    code = (
        "import sys, itertools; from pathlib import Path; from tests.worlds.live.test_backup import *\n"
        "folder = Path(sys.argv[1]); store = FolderStore(folder, durable=False); kept = []\n"
        "catalog, board = Catalog(folder / 'catalog.sqlite'), Board(folder / 'board.sqlite')\n"
        "for i in itertools.count(1):\n"
        "    one = package(i, f's{i % 20}'); digest = one.signed.digest\n"
        "    for blob in one.blobs: store.put(blob)\n"
        "    store.put_card(digest, encode_card(one.signed)); catalog.add(one.signed, HUB); board.put(verdict(i), i)\n"
        "    kept.append(digest)\n"
        "    if len(kept) > 8:\n"
        "        gone = kept.pop(0); store.delete_card(gone); catalog.drop_holder(HUB, gone); store.sweep()\n"
        "    print(i, flush=True)\n"
    )
    sizes = []
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "hub")], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        try:
            for i in range(6):
                before = int([writer.stdout.readline() for _ in range(12)][-1])
                done = backup(tmp_path / "hub", tmp_path / f"saved{i}")
                assert done.left_out == 0  # pinned: no sweep takes it from under the backup
                restore(tmp_path / f"saved{i}", tmp_path / f"back{i}")
                sizes.append((before, len(check(tmp_path / f"back{i}"))))
        finally:
            writer.kill()
    assert all(8 <= count <= 9 for _, count in sizes), sizes
    assert sizes[-1][0] > sizes[0][0]  # it really went on


def test_a_hub_starts_on_what_was_saved_while_it_served(tmp_path: Path) -> None:
    async def main() -> None:
        async with hub(tmp_path / "hub") as at, member(at, "a", tmp_path) as world:
            await world.enter(PATIENCE_S)
            published = await node(world).publish(weights(), slot="model", version=0)
            await until(lambda: HUB in at.catalog.holders(published.signed.digest))
            key = at.transport.voice.key
            done = await asyncio.to_thread(backup, tmp_path / "hub", tmp_path / "saved")
            await node(world).publish(weights(level=2.0), slot="later", version=0)
        assert (done.cards, done.left_out) == (1, 0)
        await asyncio.to_thread(restore, tmp_path / "saved", tmp_path / "back")
        async with hub(tmp_path / "back") as at, member(at, "b", tmp_path) as world:
            await world.enter(PATIENCE_S)
            assert at.transport.voice.key == key
            (offer,) = await node(world).find(WANT)
            assert offer.signed.digest == published.signed.digest
            got = await node(world).fetch(offer)
            assert np.array_equal(got.tensors["w"], weights().tensors["w"])

    asyncio.run(main())


def test_cards_whose_blobs_vanished_are_struck_out(tmp_path: Path) -> None:
    digests = fill(tmp_path / "hub")
    with FolderStore(tmp_path / "hub") as store:
        store.delete(decode_card(store.card(digests[0])).card.blobs[0].digest)
    done = backup(tmp_path / "hub", tmp_path / "saved")
    assert (done.cards, done.left_out) == (4, 1)
    restore(tmp_path / "saved", tmp_path / "back")
    assert check(tmp_path / "back") == digests[1:]


def a_blob(folder: Path) -> Path:
    return next(path for path in sorted((folder / "blobs").rglob("*")) if path.is_file())


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()  # linked with the hub's own
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["spoiled", "gone"])
def test_a_damaged_blob_is_refused_or_left_out(tmp_path: Path, how: str) -> None:
    digests = fill(tmp_path / "hub")
    backup(tmp_path / "hub", tmp_path / "saved")
    spoil(a_blob(tmp_path / "saved")) if how == "spoiled" else a_blob(tmp_path / "saved").unlink()
    with pytest.raises(ConfigError, match="salvage"):
        restore(tmp_path / "saved", tmp_path / "back")
    assert not (tmp_path / "back").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []
    done = restore(tmp_path / "saved", tmp_path / "back", salvage=True)
    assert (done.cards, done.blobs, done.left_out) == (4, 4, 1)
    assert len(set(digests) - set(check(tmp_path / "back"))) == 1
    assert len(check(tmp_path / "hub")) == 5  # the hub's own are whole


@pytest.mark.parametrize("name", ["index.sqlite", "hub.key", "catalog.sqlite"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    fill(tmp_path / "hub")
    backup(tmp_path / "hub", tmp_path / "saved")
    spoil(tmp_path / "saved" / name)
    with pytest.raises(ConfigError, match=f"{name} is damaged"):
        restore(tmp_path / "saved", tmp_path / "back")
    (tmp_path / "saved" / name).unlink()
    with pytest.raises(ConfigError, match=f"{name} is missing"):
        restore(tmp_path / "saved", tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../outside", "link"])
def test_a_backup_that_names_what_is_outside_is_refused(tmp_path: Path, name: str) -> None:
    fill(tmp_path / "hub")
    backup(tmp_path / "hub", tmp_path / "saved")
    (tmp_path / "outside").write_text("mine")
    (tmp_path / "saved" / "link").symlink_to(tmp_path / "outside")
    manifest: dict[str, Any] = msgspec.json.decode((tmp_path / "saved" / MANIFEST).read_bytes())
    manifest["files"][name] = [4, "0" * 64]
    (tmp_path / "saved" / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    with pytest.raises(ConfigError, match="outside the backup"):
        restore(tmp_path / "saved", tmp_path / "back")


def test_nothing_is_overwritten_and_what_is_not_ours_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "hub")
    backup(tmp_path / "hub", tmp_path / "saved")
    before = tree(tmp_path / "saved")
    for call in (lambda: backup(tmp_path / "hub", tmp_path / "saved"), lambda: restore(tmp_path / "saved", tmp_path / "hub")):
        with pytest.raises(ConfigError, match="is there already"):
            call()
    assert tree(tmp_path / "saved") == before
    with pytest.raises(ConfigError, match=r"no index\.sqlite"):
        backup(tmp_path, tmp_path / "other")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="not a backup"):
        restore(tmp_path / "empty", tmp_path / "other")
    (tmp_path / "hub" / "film.mkv").write_bytes(b"")
    os.truncate(tmp_path / "hub" / "film.mkv", module.FILE_LIMIT_BYTES + 1)
    with pytest.raises(ConfigError, match="move it elsewhere"):
        backup(tmp_path / "hub", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_another_file_system_gets_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = fill(tmp_path / "hub")

    def link(source: object, target: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", link)
    assert backup(tmp_path / "hub", tmp_path / "saved").linked == 0
    restore(tmp_path / "saved", tmp_path / "back")
    assert check(tmp_path / "back") == digests


def killed(call: str, folder: Path) -> Path:
    """What is left where `call` is killed when the keys have been written."""
    code = (
        "import os, signal; from pathlib import Path; from kuberml.worlds.live.hub import backup as module\n"
        "def die(*given, **options): os.kill(os.getpid(), signal.SIGKILL)\n"
        f"module.take_blobs = module.blob_files = die; module.{call}\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=folder)
    assert done.returncode == -signal.SIGKILL
    (part,) = folder.glob(".*.part")
    assert (part / "hub.key").read_bytes() == b"secret"
    assert stat.S_IMODE(part.stat().st_mode) == 0o700
    return part


@pytest.mark.parametrize("call", ["backup(Path('hub'), Path('saved'))", "restore(Path('before'), Path('back'))"])
def test_what_a_killed_one_left_goes_with_the_next_and_what_is_under_way_stays(tmp_path: Path, call: str) -> None:
    fill(tmp_path / "hub")
    backup(tmp_path / "hub", tmp_path / "before")
    part = killed(call, tmp_path)
    with appearing(tmp_path / "slow") as slow:
        (slow / "hub.key").write_bytes(b"secret")
        backup(tmp_path / "hub", tmp_path / "next")
        assert (slow.is_dir(), part.exists()) == (True, False)
    part = killed(call, tmp_path)
    restore(tmp_path / "next", tmp_path / "back")
    assert {path.name for path in tmp_path.iterdir()} == {"hub", "before", "next", "back", "slow"}
    assert [path.name for path in (tmp_path / "slow").iterdir()] == ["hub.key"]


def test_what_is_not_surely_a_part_of_a_backup_is_left_alone(tmp_path: Path) -> None:
    fill(tmp_path / "hub")
    part = killed("backup(Path('hub'), Path('saved'))", tmp_path)
    others = [tmp_path / name for name in (".mine.part", ".saved.0123456789ab.part", "saved.0123456789ab.part")]
    for path in others:
        path.mkdir()
        (path / "mine").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    part.rename(tmp_path / "elsewhere" / part.name)
    part.symlink_to(tmp_path / "elsewhere" / part.name)
    backup(tmp_path / "hub", tmp_path / "saved")
    assert all((path / "mine").is_file() for path in others)
    assert (part / "hub.key").is_file()
