"""The notice board of a shared folder: who is a member, and what was announced, in the order in which it came.

One SQLite file that all processes append to. It is what a router would be elsewhere. The newest of each topic stay: who
subscribes hears what comes from then on, and verdicts are read by those who open the folder later.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from kuberml.core.database import Database
from kuberml.core.errors import ConfigError
from kuberml.core.ids import NodeId

_SCHEMA = """
CREATE TABLE members (node TEXT PRIMARY KEY, role TEXT NOT NULL, author TEXT NOT NULL, present INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE notices (id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, sender TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX notices_of_topic ON notices (topic, id);
"""


KEPT = 4096
"""Notices of a topic: more than a subscription holds back for a reader that is slow."""
TRIM_EVERY = 64
"""Posts of a process under a topic between two looks at what is over that."""


class Notice(NamedTuple):
    """One announcement: its number, who sent it, and what."""

    id: int
    sender: NodeId
    body: bytes


class Notices:
    """The board in one file."""

    def __init__(self, path: Path | str) -> None:
        """Open or make it. Raises ConfigError: the file is something else or cannot be opened."""
        self._rows = Database(path, sort="notice board", version=1, schema=_SCHEMA, durable=False)
        self._posted = Counter[str]()

    def enter(self, node: NodeId, role: str, author: str) -> None:
        """A member is here from now on. A name stays with the keys that took it first.

        Raises:
            ConfigError: the name belongs to other keys.
        """
        with self._rows.write() as rows:
            known = rows.execute("SELECT author FROM members WHERE node = ?", (node,)).fetchone()
            if known is not None and known[0] != author:
                raise ConfigError(f"the name {node!r} belongs to other keys here ({known[0][:12]}...); join with another name")
            rows.execute("INSERT OR REPLACE INTO members VALUES (?, ?, ?, 1)", (node, role, author))

    def leave(self, node: NodeId) -> None:
        """A member is gone; what it published stays."""
        with self._rows.write() as rows:
            rows.execute("UPDATE members SET present = 0 WHERE node = ?", (node,))

    def is_member(self, node: NodeId) -> bool:
        """Whether somebody of this name was ever here."""
        return bool(self._rows.read("SELECT 1 FROM members WHERE node = ?", (node,)))

    def present(self, role: str | None) -> tuple[NodeId, ...]:
        """Who has entered and not left, sorted; of one role or of all. A killed process counts as present: it did not say."""
        found = self._rows.read(
            "SELECT node FROM members WHERE present AND (? IS NULL OR role = ?) ORDER BY node", (role, role)
        )
        return tuple(NodeId(node) for (node,) in found)

    def post(self, topic: str, sender: NodeId, body: bytes, *, keep: int = KEPT) -> None:
        """Append an announcement. About the newest `keep` of its topic stay, a few more between two looks."""
        with self._rows.write() as rows:
            rows.execute("INSERT INTO notices (topic, sender, body) VALUES (?, ?, ?)", (topic, sender, body))
            if self._posted[topic] % TRIM_EVERY == 0:
                rows.execute(
                    "DELETE FROM notices WHERE topic = ? AND id <="
                    " (SELECT id FROM notices WHERE topic = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
                    (topic, topic, keep),
                )
        self._posted[topic] += 1

    def last(self) -> int:
        """Number of the newest notice; 0 if there is none."""
        return int(self._rows.read("SELECT coalesce(max(id), 0) FROM notices")[0][0])

    def after(self, number: int, topic: str, *, limit: int = -1) -> list[Notice]:
        """Notices under a topic beyond a number, in order; beyond `limit` (-1: none) the oldest are left out."""
        found = self._rows.read(
            "SELECT id, sender, body FROM notices WHERE topic = ? AND id > ? ORDER BY id DESC LIMIT ?", (topic, number, limit)
        )
        return [Notice(at, NodeId(sender), bytes(body)) for at, sender, body in reversed(found)]

    def close(self) -> None:
        """Let go of the file. Calling it twice is fine."""
        self._rows.close()
