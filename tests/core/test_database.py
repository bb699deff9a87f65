import errno
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kuberml.core import database
from kuberml.core.database import Database
from kuberml.core.errors import ConfigError

SCHEMA = "CREATE TABLE t (k TEXT PRIMARY KEY, v);\nCREATE TABLE u (x);\n"


def make(path: Path | str, **options: object) -> Database:
    return Database(path, sort="test file", version=1, schema=SCHEMA, **options)


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    rows = make(tmp_path / "x.sqlite")
    with pytest.raises(sqlite3.IntegrityError), rows.write() as writer:
        writer.executemany("INSERT INTO t VALUES (?, 1)", ["a", "b", "a"])
    assert rows.read("SELECT * FROM t") == []
    with rows.write() as writer:
        writer.execute("INSERT INTO t VALUES ('a', 1)")
    assert rows.read("SELECT * FROM t WHERE k = ?", ("a",)) == [("a", 1)]


def test_the_schema_comes_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="test file"):
        Database(tmp_path / "x.sqlite", sort="test file", version=1, schema="CREATE TABLE t (x);\nCREATE TABLE nonsense;")
    assert make(tmp_path / "x.sqlite").read("SELECT * FROM u") == []


def test_a_path_that_cannot_be_opened_is_the_callers_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="test file"):
        make(tmp_path / "no such folder" / "x.sqlite")


def test_waiting_for_another_writer_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.05)
    one, two = make(tmp_path / "x.sqlite"), make(tmp_path / "x.sqlite")
    with one.write(), pytest.raises(OSError, match="locked") as caught, two.write():
        raise AssertionError("two writers at once")
    assert caught.value.errno == errno.EBUSY


def test_a_mistake_in_sql_is_not_taken_for_a_broken_disk() -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        make(":memory:").read("SELECT * FROM nowhere")


def test_threads_may_share_one(tmp_path: Path) -> None:
    rows = make(tmp_path / "x.sqlite", durable=False)

    def insert(name: str) -> None:
        for number in range(50):
            with rows.write() as writer:
                writer.execute("INSERT INTO t VALUES (?, 1)", (f"{name}{number}",))

    threads = [threading.Thread(target=insert, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows.read("SELECT count(*) FROM t") == [(150,)]
    rows.close()
    rows.close()


def test_many_processes_may_make_one_file_at_once(tmp_path):
    code = (
        "import sys, time\n"
        "from kuberml.core.database import Database\n"
        "for k in range(40):\n"
        "    while time.time() < float(sys.argv[1]) + k / 40: pass\n"
        "    Database(f'{k}.sqlite', sort='test', version=1, schema='CREATE TABLE t (x INTEGER)').close()\n"
    )
    command = [sys.executable, "-c", code, str(time.time() + 1)]
    running = [subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[1] for process in running] == [""] * 4
