"""Delivery in real processes: killed at any moment, two at once, and large packages in little memory."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kuberml.core.ids import NodeId
from kuberml.exchange.delivery import Delivery
from kuberml.knowledge.card import Card, decode_card
from kuberml.vault.folder import FolderStore
from tests.exchange.bigfile import MIB, OtherVault

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.exchange.bigfile", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)


def taken(process: subprocess.Popen[str]) -> dict[str, Any]:
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Card]:
    """A folder with 64 MiB in a vault `a`, and its card."""
    here = tmp_path_factory.mktemp("published")
    taken(start("write", here / "f", 64 * MIB))
    taken(start("publish", here / "f", here / "a", here / "card"))
    return here, decode_card((here / "card").read_bytes()).card


def receive_here(source: Path, card: Card, target: Path) -> int:
    """Receive in this process; bytes that were read for it."""
    door = OtherVault(str(source), 0.0)
    try:
        with FolderStore(target) as store:
            asyncio.run(Delivery(door, store).deliver(card, [NodeId("other")]))
            blob = card.blobs[0]
            assert store.get(blob.digest)[:8] == door._store.read(blob.digest, 0, 8)
    finally:
        door.close()
    return door.read_bytes


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_receiver_killed_on_the_way_asks_for_nothing_twice(
    published: tuple[Path, Card], tmp_path: Path, share: float
) -> None:
    here, card = published
    child = start("receive", here / "a", here / "card", tmp_path / "b", 0.02)
    assert child.stdout is not None
    came = 0
    while came < share * card.size_bytes:
        came = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    rest = receive_here(here / "a", card, tmp_path / "b")
    assert rest <= card.size_bytes - came
    assert rest + came <= 1.01 * card.size_bytes
    assert os.listdir(tmp_path / "b" / "parts") == []


def test_bytes_that_the_disk_lost_in_a_power_cut_are_found_out(published: tuple[Path, Card], tmp_path: Path) -> None:
    here, card = published
    child = start("receive", here / "a", here / "card", tmp_path / "b", 0.02)
    assert child.stdout is not None
    while int(child.stdout.readline()) < 0.5 * card.size_bytes:
        pass
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    (part,) = (tmp_path / "b" / "parts").iterdir()
    with part.open("r+b") as file:
        file.seek(5 * MIB)
        file.write(bytes(4096))  # what a torn write leaves
        file.truncate(20 * MIB)
    rest = receive_here(here / "a", card, tmp_path / "b")
    assert 0.6 * card.size_bytes < rest < 0.75 * card.size_bytes


def test_processes_that_receive_the_same_at_once_do_not_share_a_file(published: tuple[Path, Card], tmp_path: Path) -> None:
    here, card = published
    children = [start("receive", here / "a", here / "card", tmp_path / "b", 0.05) for _ in range(3)]
    seen: set[str] = set()
    while any(child.poll() is None for child in children):
        if (tmp_path / "b" / "parts").exists():
            names = os.listdir(tmp_path / "b" / "parts")
            assert len({name.split(".")[2] for name in names}) == len(names), "one file a process"
            seen.update(names)
        for child in children:
            if child.poll() is None and child.stdout is not None:
                child.stdout.readline()
    assert [child.wait() for child in children] == [0, 0, 0]
    for child in children:
        assert child.stdout is not None
        child.stdout.close()
    assert len(seen) == 3
    with FolderStore(tmp_path / "b") as store:
        assert len(store.get(card.blobs[0].digest)) == card.size_bytes
    assert os.listdir(tmp_path / "b" / "parts") == []


def test_only_one_heir_gets_what_a_dead_process_left(published: tuple[Path, Card], tmp_path: Path) -> None:
    here, card = published
    child = start("receive", here / "a", here / "card", tmp_path / "b", 0.05)
    assert child.stdout is not None
    while int(child.stdout.readline()) < 0.2 * card.size_bytes:
        pass
    digest, size_bytes = card.blobs[0].digest, card.size_bytes
    with FolderStore(tmp_path / "b") as one, FolderStore(tmp_path / "b") as other:
        assert one.part(digest, size_bytes).is_new, "its owner lives"
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        parts = [store.part(digest, size_bytes) for store in (other, one)]
        assert [part.is_new for part in parts] == [False, True]
        assert len({part.path for part in parts}) == 2


def test_what_nobody_needs_any_more_is_swept(published: tuple[Path, Card], tmp_path: Path) -> None:
    _, card = published
    blob = card.blobs[0]
    for name in ("old", "new"):
        with FolderStore(tmp_path) as store:
            part = store.part(blob.digest if name == "old" else blob.digest[::-1], blob.size_bytes)  # type: ignore[arg-type]
            part.write(0, b"x" * 10_000)
            path = part.path
        if name == "old":
            os.utime(path, (0, 0))
    with FolderStore(tmp_path) as store:
        held = store.part(blob.digest, 10)
        os.utime(held.path, (0, 0))
        assert store.sweep() > 0
        assert sorted(name.split(".")[0] for name in os.listdir(tmp_path / "parts")) == sorted([blob.digest, blob.digest[::-1]])
        assert held.path.exists(), "it is open"


def test_parts_that_nobody_works_on_are_bounded(tmp_path: Path) -> None:
    with FolderStore(tmp_path) as store:
        for number in range(50):
            part = store.part((f"{number:02d}" * 32), 1000)  # type: ignore[arg-type]
            part.write(0, b"x")
            part.close()
        assert len(os.listdir(tmp_path / "parts")) <= 33


def test_a_large_package_needs_little_memory_on_either_side(tmp_path: Path) -> None:
    """`python -m tests.exchange.bigfile 2048` is the same for 2 GiB: below 256 MiB resident."""
    size_bytes = 256 * MIB
    taken(start("write", tmp_path / "f", size_bytes))
    given = taken(start("publish", tmp_path / "f", tmp_path / "a", tmp_path / "card"))
    got = taken(start("receive", tmp_path / "a", tmp_path / "card", tmp_path / "b", 0))
    assert got["bytes"] == given["bytes"] > size_bytes
    assert given["growth_mib"] <= 32
    assert got["growth_mib"] <= 96
