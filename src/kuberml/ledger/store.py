"""The ledger's tables: append-only, names interned to integers.

An *activity* is an event: its id is minus the event's `seq`, so it needs no row of its own, and that its node was associated
with it stands in `events`. Entities and agents have ids above 0.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from kuberml.core.database import Database
from kuberml.ledger.vocabulary import ACTIVITY, AGENTS, ENTITIES, NODE, RELATIONS, statements

Record = tuple[int, str, str, dict[str, Any]]
"""(time_ns, node, event, fields)"""

ENTITY, AGENT = 0, 1
"""Sorts of named things. One name may be both: they are two things."""

_INTERNED = 200_000  # names kept in memory
_NUMBER = {relation: number for number, relation in enumerate(RELATIONS)}
_TABLES = """
CREATE TABLE events (
  seq INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, node INTEGER NOT NULL, event TEXT NOT NULL, fields TEXT NOT NULL
);
CREATE TABLE nodes (id INTEGER PRIMARY KEY, sort INTEGER NOT NULL, name TEXT NOT NULL, UNIQUE (name, sort));
CREATE TABLE types (node INTEGER, type TEXT, PRIMARY KEY (node, type)) WITHOUT ROWID;
CREATE TABLE edges (src INTEGER, relation INTEGER, dst INTEGER, PRIMARY KEY (src, relation, dst)) WITHOUT ROWID;
CREATE INDEX edges_back ON edges (dst, relation, src);
CREATE TRIGGER events_in_order BEFORE INSERT ON events WHEN NEW.seq <= (SELECT max(seq) FROM events)
BEGIN SELECT raise(ABORT, 'the ledger is append-only'); END;
"""
_SCHEMA = _TABLES + "".join(
    f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table}\n"
    "BEGIN SELECT raise(ABORT, 'the ledger is append-only'); END;\n"
    for table in ("events", "nodes", "types", "edges")
    for change in ("UPDATE", "DELETE")
)


def _plain(item: object) -> object:
    # numpy's scalars and arrays know how to become plain; anything else is taken down as its text.
    plain = getattr(item, "tolist", None)
    return plain() if callable(plain) else str(item)


_json = msgspec.json.Encoder(enc_hook=_plain)


class LedgerStore:
    """One ledger file, or ":memory:". Several processes may append to one file."""

    def __init__(self, path: Path | str) -> None:
        """Open or make it. What was written survives kill -9; a power cut may cost the last batches, whole.

        Raises:
            ConfigError: the file is not a ledger or cannot be opened.
        """
        self.rows = Database(path, sort="ledger", version=1, schema=_SCHEMA, durable=False)
        self._ids: dict[tuple[int, str], int] = {}
        self._types: set[tuple[int, str]] = set()

    def append(self, batch: Sequence[Record]) -> None:
        """Write a batch in one transaction, with the statements its events make.

        Raises:
            OSError: the disk is full or broken; nothing of the batch is written.
        """
        try:
            with self.rows.write() as rows:
                self._append(rows, batch)
        except BaseException:
            self._forget()  # ids of this batch were never committed
            raise
        if len(self._ids) > _INTERNED:
            self._forget()

    def _append(self, rows: sqlite3.Connection, batch: Sequence[Record]) -> None:
        seq = int(rows.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])
        events, edges, types = [], [], set()
        for time_ns, node, event, fields in batch:
            seq += 1
            own = self._id(rows, AGENT, node)
            types.add((own, AGENTS[NODE]))
            events.append((seq, time_ns, own, event, _encode(fields)))
            for relation, left, subject, right, object_ in statements(event, fields):
                ends = []
                for role, name in ((left, subject), (right, object_)):
                    if name is None:
                        ends.append(-seq if role == ACTIVITY else own)
                        continue
                    sort, type_ = (AGENT, AGENTS[role]) if role in AGENTS else (ENTITY, ENTITIES[role])
                    ends.append(self._id(rows, sort, name))
                    types.add((ends[-1], type_))
                edges.append((ends[0], _NUMBER[relation], ends[1]))
        rows.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", events)
        rows.executemany("INSERT OR IGNORE INTO edges VALUES (?, ?, ?)", edges)
        rows.executemany("INSERT OR IGNORE INTO types VALUES (?, ?)", types - self._types)
        self._types |= types

    def _id(self, rows: sqlite3.Connection, sort: int, name: str) -> int:
        known = self._ids.get((sort, name))
        if known is None:
            name = name.encode(errors="replace").decode()  # half a surrogate pair would stop the whole batch
            rows.execute("INSERT OR IGNORE INTO nodes (sort, name) VALUES (?, ?)", (sort, name))
            found = rows.execute("SELECT id FROM nodes WHERE name = ? AND sort = ?", (name, sort)).fetchone()
            known = self._ids[sort, name] = int(found[0])
        return known

    def _forget(self) -> None:
        self._ids.clear()
        self._types.clear()


def _encode(fields: dict[str, Any]) -> str:
    try:
        return _json.encode(fields).decode()
    except (TypeError, ValueError, RecursionError) as error:  # taking down what happened never fails
        return _json.encode({"unreadable": repr(fields)[:10_000], "why": str(error)}).decode()
