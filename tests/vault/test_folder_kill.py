"""Writers are killed with SIGKILL: at every system call that could leave something half-done, and at moments of chance."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from kuberml.core.ids import digest_of
from kuberml.core.rng import rng
from kuberml.knowledge.card import decode_card, encode_card
from kuberml.vault.folder import FolderStore
from tests.contracts.store import signed_card


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a forked child; its wait status."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            work()
            os._exit(0)
        os._exit(1)
    return os.waitpid(child, 0)[1]


def killing(step: int, calls: Iterable[str]) -> None:
    """From now on, after `step` more of these calls of `os`, the next one kills this process."""
    left = [step]

    def wrap(original: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **options)

        return call

    for name in calls:
        setattr(os, name, wrap(getattr(os, name)))


def check(vault: Path) -> FolderStore:
    """Open what a killed process left: everything there is whole, and nothing unfinished stays."""
    store = FolderStore(vault)
    assert list((vault / "sessions").rglob("*.part")) == []
    assert len([path for path in (vault / "sessions").iterdir() if path.is_dir()]) == 1
    for digest in store.blobs():
        assert digest_of(store.get(digest)) == digest
    for digest in store.cards():
        assert decode_card(store.card(digest)).digest == digest
    assert len(set(store.memory().values())) <= 1, "a transaction of memory is all or nothing"
    return store


def test_a_writer_killed_at_any_step_leaves_nothing_half_done(tmp_path: Path) -> None:
    blob, signed = b"blob" * 50_000, signed_card(b"blob" * 50_000)

    def work(vault: Path, step: int) -> None:
        killing(step, ("open", "write", "fsync", "replace", "close", "unlink", "rmdir", "pread"))
        store = FolderStore(vault)
        store.put(blob)
        store.put_card(signed.digest, encode_card(signed))
        store.remember({"a": b"1", "b": b"1"})
        store.sweep()
        store.close()

    statuses = []
    for step in range(200):
        vault = tmp_path / str(step % 3)  # a fresh folder at first, later one that has been through some kills
        statuses.append(in_child(lambda vault=vault, step=step: work(vault, step)))
        store = check(vault)
        if list(store.cards()):
            assert store.get(digest_of(blob)) == blob, "a card came before its blob"
        store.close()
        if statuses[-1] == 0:
            break
    assert statuses[-1] == 0, "the last child ran to its end"
    assert len(statuses) > 10
    assert {os.WTERMSIG(status) for status in statuses[:-1]} == {signal.SIGKILL}


@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_a_vault_whose_making_was_cut_off_is_made_at_the_next_open(tmp_path: Path, step: int) -> None:
    def work() -> None:
        killing(step, ["mkdir"])
        FolderStore(tmp_path / "vault").put(b"blob")

    assert os.WTERMSIG(in_child(work)) == signal.SIGKILL
    store = check(tmp_path / "vault")
    assert store.get(store.put(b"blob")) == b"blob"


WRITER = """
import sys
from kuberml.vault.folder import FolderStore
store, number = FolderStore(sys.argv[1]), int(sys.argv[2])
while True:
    number += 1
    store.put(number.to_bytes(4, "little") * 20_000)
    store.remember({name: b"%d" % number for name in "abcdef"})
    print(number, flush=True)
"""


def test_a_real_process_killed_at_moments_of_chance_loses_nothing_it_was_told_is_kept(tmp_path: Path) -> None:
    draw, told = rng(0, "kill"), 0
    for _ in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(told)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert writer.stdout is not None
        lines = [writer.stdout.readline()]  # it runs
        time.sleep(float(draw.uniform(0.0, 0.05)))
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.readlines()
        writer.stdout.close()
        writer.wait()
        told = max(int(line) for line in lines if line.endswith(b"\n"))
        store = check(tmp_path)
        assert int(store.memory()["a"]) >= told
        blob = told.to_bytes(4, "little") * 20_000
        assert store.get(digest_of(blob)) == blob
        store.close()


BUMPER = """
import json, sys
from kuberml.vault.folder import FolderStore
store = FolderStore(sys.argv[1])
done = [store.put(b"%d" % (number % 7) * 1000) for number in range(30)]
for number in range(30):
    store.remember({sys.argv[2]: b"%d" % number})
store.sweep()
print(json.dumps(sorted(set(done))))
"""


def test_processes_that_open_one_new_folder_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    writers = [
        subprocess.Popen([sys.executable, "-c", BUMPER, str(tmp_path / "v"), name], stdout=subprocess.PIPE, env=environment)
        for name in ("x", "y", "z")
    ]
    outputs = [writer.communicate(timeout=60)[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert len(set(outputs)) == 1
    store = FolderStore(tmp_path / "v")
    assert store.memory() == {"x": b"29", "y": b"29", "z": b"29"}
    assert set(store.blobs()) <= set(json.loads(outputs[0]))
    for digest in store.blobs():
        assert len(store.get(digest)) == 1000
