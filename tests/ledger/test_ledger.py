import errno
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from kuberml.core.errors import ConfigError
from kuberml.core.ids import Digest, NodeId, digest_of
from kuberml.core.seam import Recorder
from kuberml.ledger import capture, store
from kuberml.ledger.capture import Capture
from kuberml.ledger.ledger import Event, Ledger
from kuberml.ledger.query import who_taught
from kuberml.ledger.store import Record
from tests.ledger.worlds import small_world


def test_what_was_recorded_is_read_back_in_order() -> None:
    ledger, times = Ledger(), iter([10, 20])
    recorder: Recorder = ledger.recorder(NodeId("n1"), lambda: next(times))
    recorder.record("fault", what="battery", level=0.25, parts=[1, "x", None])
    recorder.record("my own event")
    assert list(ledger.events()) == [
        Event(1, 10, NodeId("n1"), "fault", {"what": "battery", "level": 0.25, "parts": [1, "x", None]}),
        Event(2, 20, NodeId("n1"), "my own event", {}),
    ]


def test_fields_may_be_anything_and_never_stop_the_ledger() -> None:
    ledger, loop = Ledger(), []
    loop.append(loop)
    recorder = ledger.recorder(NodeId("n"), lambda: 0)
    recorder.record("x", count=np.int64(3), several=np.arange(2), path=Path("p"), blob=b"\0", big=10**30, odd=float("nan"))
    recorder.record("x", loop=loop)
    recorder.record("absorbed", card="half \ud800 a pair", model=7)
    first, second, third = (event.fields for event in ledger.events())
    assert (first["count"], first["several"], first["path"], first["odd"]) == (3, [0, 1], "p", None)
    assert "unreadable" in second
    assert "unreadable" in third


def test_a_ledger_goes_on_where_it_stopped(tmp_path: Path) -> None:
    for _ in range(2):
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            small_world(ledger)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert [event.seq for event in ledger.events()] == list(range(1, 31))
        assert ledger.read("SELECT count(*) - count(DISTINCT name) FROM nodes") == [(0,)]


@pytest.mark.parametrize("table", ["events", "nodes", "types", "edges"])
@pytest.mark.parametrize(
    "change", ["UPDATE {0} SET rowid_ = 1", "DELETE FROM {0}", "INSERT OR REPLACE INTO {0} SELECT * FROM {0}"]
)
def test_the_ledger_is_append_only(table: str, change: str) -> None:
    ledger = Ledger()
    small_world(ledger)
    column = {"events": "seq", "nodes": "id", "types": "node", "edges": "src"}[table]
    before = ledger.read(f"SELECT * FROM {table}")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"), ledger._store.rows.write() as rows:
        rows.execute(change.format(table).replace("rowid_", column))
    assert ledger.read(f"SELECT * FROM {table}") == before


def test_any_program_that_opens_the_file_finds_it_append_only(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        small_world(ledger)
    other = sqlite3.connect(tmp_path / "ledger.sqlite")
    for change in ("UPDATE events SET fields = '{}'", "DELETE FROM edges", "REPLACE INTO events VALUES (1, 0, 1, 'x', '{}')"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            other.execute(change)
    other.close()


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"text, not a ledger" * 100)
    with pytest.raises(ConfigError, match="ledger"):
        Ledger(tmp_path / "x")


# Capture


def test_batches_are_written_in_the_caller_without_a_background(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "BATCH", 10)
    batches: list[list[Record]] = []
    taker = Capture(lambda batch: batches.append(list(batch)), background=False)
    for number in range(25):
        taker.append((number, "n", "e", {}))
    assert [len(batch) for batch in batches] == [10, 10]
    taker.close()
    assert [record[0] for batch in batches for record in batch] == list(range(25))


def test_many_threads_lose_nothing_and_write_nothing_twice(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", background=True)

    def work(name: str) -> None:
        recorder = ledger.recorder(NodeId(name), lambda: 0)
        for number in range(5000):
            recorder.record("e", number=number)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in "abcd":
        assert [event.fields["number"] for event in ledger.events("nodes.name = ?", (name,))] == list(range(5000))
    ledger.close()
    ledger.close()


def test_the_background_writes_a_part_of_a_batch_soon(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite", background=True) as ledger:
        ledger.recorder(NodeId("n"), lambda: 0).record("e")
        deadline = time.monotonic() + 10
        while not ledger._store.rows.read("SELECT 1 FROM events") and time.monotonic() < deadline:
            time.sleep(0.01)
        assert ledger._store.rows.read("SELECT count(*) FROM events") == [(1,)]


@pytest.mark.parametrize("background", [False, True])
def test_a_disk_that_refuses_loses_nothing_and_says_so(monkeypatch: pytest.MonkeyPatch, background: bool) -> None:
    monkeypatch.setattr(capture, "BATCH", 10)
    monkeypatch.setattr(capture, "LIMIT", 30)
    written: list[Record] = []
    full = [True]

    def write(batch: Sequence[Record]) -> None:
        if full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.extend(batch)

    taker = Capture(write, background=background)
    told = 0
    for number in range(35):
        try:
            taker.append((number, "n", "e", {}))
        except OSError:
            told += 1
    assert told == (6 if background else 26)
    full[0] = False
    taker.close()
    assert [record[0] for record in written] == list(range(35))


def test_the_writer_thread_goes_on_after_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "BATCH", 1)
    refused, written = threading.Event(), list[Record]()

    def write(batch: Sequence[Record]) -> None:
        if not refused.is_set():
            refused.set()
            raise OSError(errno.EIO, "once")
        written.extend(batch)

    taker = Capture(write, background=True)
    taker.append((1, "n", "e", {}))
    assert refused.wait(10)
    taker.append((2, "n", "e", {}))
    deadline = time.monotonic() + 10
    while len(written) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [record[0] for record in written] == [1, 2]
    taker.close()


def test_a_batch_that_does_not_fit_on_the_disk_is_written_whole_later(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    recorder = ledger.recorder(NodeId("n"), lambda: 0)
    recorder.record("absorbed", card="card 0", model="model 0")
    ledger.flush()
    for number in range(1, 20):
        recorder.record("absorbed", card=f"card {number}", model=f"model {number}", note="x" * 50_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"disk|full"):
            ledger.flush()
        assert ledger._store.rows.read("SELECT count(*) FROM events") == [(1,)]
        assert ledger._store.rows.read("SELECT count(*) FROM nodes") == [(3,)]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [event.seq for event in ledger.events()] == list(range(1, 21))
    for number in range(20):
        assert [made.digest for made in who_taught(ledger, Digest(f"model {number}"))] == [f"card {number}"]


def test_names_that_memory_has_forgotten_keep_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_INTERNED", 5)
    ledger = Ledger()
    recorder = ledger.recorder(NodeId("n"), lambda: 0)
    for number in range(60):
        recorder.record("absorbed", card=f"card {number % 20}", model=f"model {number % 20}")
        ledger.flush()
    assert ledger.read("SELECT count(*), count(DISTINCT name) FROM nodes") == [(41, 41)]
    assert ledger.read("SELECT count(*) FROM types") == [(41,)]


# Kill -9

WRITER = """
import sys
from kuberml.ledger.ledger import Ledger
from kuberml.ledger import capture, store
capture.BATCH = 50
ledger = Ledger(sys.argv[1])
recorder = ledger.recorder("n", lambda: 0)
for number in range(10**9):
    recorder.record("absorbed", number=number, card=f"card {number % 999}", model=f"model {number}")
    if number % 50 == 49:
        print(number, flush=True)
"""


def test_a_killed_writer_leaves_whole_batches(tmp_path: Path) -> None:
    path, counted = tmp_path / "ledger.sqlite", 0
    for _ in range(3):
        command = [sys.executable, "-c", WRITER, str(path)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        assert writer.stdout is not None
        lines = [writer.stdout.readline()]
        time.sleep(0.03)
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.readlines()
        writer.stdout.close()
        writer.wait()
        with Ledger(path) as ledger:
            assert ledger.read("PRAGMA integrity_check") == [("ok",)]
            numbers = [event.fields["number"] for event in ledger.events()][counted:]
            assert numbers == list(range(len(numbers)))
            assert len(numbers) % 50 == 0
            assert len(numbers) > max(int(line) for line in lines if line.endswith(b"\n"))
            counted += len(numbers)
            # Each event brought its statements: used, generated, derived, attributed.
            assert ledger.read("SELECT count(*) FROM edges WHERE src < 0") == [(counted,)]
            assert ledger.read("SELECT count(*) FROM edges WHERE dst < 0") == [(counted,)]


def test_two_processes_may_append_to_one_ledger(tmp_path: Path) -> None:
    one, two = Ledger(tmp_path / "x"), Ledger(tmp_path / "x")
    for number in range(30):
        for name, ledger in (("one", one), ("two", two)):
            ledger.recorder(NodeId(name), lambda: 0).record("fetched", card=digest_of(b"%d" % (number % 7)), holder="h")
            if number % 3 == 0:
                ledger.flush()
    two.flush()
    assert sum(1 for _ in one.events()) == 60
    assert one.read("SELECT count(*), count(DISTINCT name) FROM nodes") == [(10, 10)]
