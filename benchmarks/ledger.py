"""What the ledger costs: `python benchmarks/ledger.py`.

Microseconds of thread CPU time per record in the caller, and in total with the writing; then the ancestors of one entity
among 1,000,000 entities and 1.95 million derivations, as in a tree of blocks of 1,000.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from kuberml.core.ids import NodeId, digest_of
from kuberml.core.rng import rng
from kuberml.ledger.ledger import Ledger
from kuberml.ledger.query import DERIVED

RECORDS = 100_000
DIGESTS = [digest_of(b"%d" % number) for number in range(RECORDS // 10)]


def plain(recorder, number) -> None:
    recorder.record("served", request="latest", size_bytes=number, took_ms=1.5, to="n7", slot="weights")


def published(recorder, number) -> None:
    recorder.record(
        "published", card=DIGESTS[number // 10], kind="weights", slot="weights", version=number, size_bytes=64_000,
        labels={"3": 50, "7": 50}, parents=[DIGESTS[number // 11]],
    )  # fmt: skip


def fetched(recorder, number) -> None:
    recorder.record("fetched", card=DIGESTS[number // 10], holder="n7", size_bytes=64_000, cached=False)


def measure(path: Path, call, background: bool) -> tuple[float, float, float]:
    """Caller's us, process's us, bytes on disk, each per record."""
    ledger = Ledger(path, background=background)
    recorder = ledger.recorder(NodeId("n1"), time.time_ns)
    process, thread = time.process_time_ns(), time.thread_time_ns()
    for number in range(RECORDS):
        call(recorder, number)
    thread = time.thread_time_ns() - thread
    ledger.close()
    return thread / RECORDS / 1e3, (time.process_time_ns() - process) / RECORDS / 1e3, path.stat().st_size / RECORDS


def capture_only(call) -> float:
    """Caller's us per record when the batch is never full: the price of taking it down."""
    ledger, thread = Ledger(), 0
    recorder = ledger.recorder(NodeId("n1"), time.time_ns)
    for _ in range(100):
        began = time.thread_time_ns()
        for number in range(1000):
            call(recorder, number)
        thread += time.thread_time_ns() - began
        ledger.flush()
    return thread / 100_000 / 1e3


def ancestors(path: Path) -> None:
    ledger, draw = Ledger(path), rng(0, "ledger benchmark")
    blocks = 1000
    starts = draw.integers(0, 1000, size=(blocks, 2000))
    began = time.perf_counter()
    with ledger._store.rows.write() as rows:
        rows.executemany("INSERT INTO nodes (id, sort, name) VALUES (?, 0, ?)", ((n + 1, f"{n:064x}") for n in range(10**6)))
        edges = (
            (block * 1000 + index % 1000 + 1, DERIVED, max(block * 1000 + index % 1000 - int(back) - 1, 0) + 1)
            if index % 1000 > int(back)
            else (block * 1000 + index % 1000 + 1, DERIVED, (block - 1) // 2 * 1000 + int(back) + 1)
            for block in range(blocks)
            for index, back in enumerate(starts[block])
            if block or index % 1000 > int(back)
        )
        rows.executemany("INSERT OR IGNORE INTO edges VALUES (?, ?, ?)", edges)
    count = ledger.read("SELECT count(*) FROM edges")[0][0]
    print(f"{count} edges loaded in {time.perf_counter() - began:.1f} s, {path.stat().st_size / 1e6:.0f} MB")
    sql = """
    WITH RECURSIVE behind (id) AS (SELECT id FROM nodes WHERE name = ? AND sort = 0
      UNION SELECT edges.dst FROM behind JOIN edges ON edges.src = behind.id AND edges.relation = ?)
    SELECT count(*) FROM behind"""
    for name in (f"{999_999:064x}", f"{500_999:064x}"):
        took = []
        for _ in range(5):
            began = time.perf_counter()
            found = ledger.read(sql, (name, DERIVED))[0][0]
            took.append((time.perf_counter() - began) * 1e3)
        print(f"{found} ancestors in {min(took):.1f} ms (best of 5)")
    ledger.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for call in (plain, published, fetched):
            print(f"{call.__name__}: taking it down {capture_only(call):.2f} us in the caller")
            for background in (False, True):
                caller, total, size = measure(Path(folder) / f"{call.__name__}{background}.sqlite", call, background)
                where = "on a thread" if background else "in the caller"
                print(f"  written {where}: {caller:.2f} us in the caller, {total:.2f} us in total, {size:.0f} bytes per record")
        ancestors(Path(folder) / "ancestors.sqlite")


if __name__ == "__main__":
    main()
