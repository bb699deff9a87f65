"""What authors took back, as a hub remembers it, for whoever was not there when it was said. A restarted hub reads it again.

Of each author, task and slot the word about the highest version stands. Words are numbered as they come, so that a reader asks
for what is new since the last one that it heard; the era says which numbering that is.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import msgspec

from kuberml.core import canonical
from kuberml.core.database import Database
from kuberml.exchange import wire
from kuberml.knowledge.withdrawal import SignedWithdrawal

WORDS_MAX = 262_144
"""About 400 bytes each on the disk; over that the oldest go."""

PAGE = 1024
"""Of words in one answer: below what a reader accepts, however long the names. The rest comes when it asks again."""

_SCHEMA = """
CREATE TABLE words (
  number INTEGER PRIMARY KEY AUTOINCREMENT, author TEXT NOT NULL, task TEXT NOT NULL, slot TEXT NOT NULL,
  version INTEGER NOT NULL, signed BLOB NOT NULL, UNIQUE (author, task, slot)
);
CREATE INDEX words_of_task ON words (task, number);
CREATE TABLE era (name TEXT NOT NULL);
"""
_decoder = msgspec.msgpack.Decoder(SignedWithdrawal)


class Withdrawals:
    """Signed withdrawals. Who puts one here has checked it (`knowledge.withdrawal.check_withdrawal`)."""

    def __init__(self, path: Path | str = ":memory:", *, words_max: int = WORDS_MAX) -> None:
        """Open or make it. It survives kill -9; a power cut may cost its last entries.

        Args:
            path: the file, or ":memory:".
            words_max: its bound.

        Raises:
            ConfigError: the file is not one of these or cannot be opened.
        """
        self._max = words_max
        self._rows = Database(path, sort="list of withdrawals", version=1, schema=_SCHEMA, durable=False)
        with self._rows.write() as rows:
            if not rows.execute("SELECT 1 FROM era").fetchone():
                rows.execute("INSERT INTO era VALUES (?)", ("memory" if path == ":memory:" else secrets.token_hex(8),))
        ((self._era,),) = self._rows.read("SELECT name FROM era")

    def put(self, signed: SignedWithdrawal) -> None:
        """Take in a checked word; an older one about the same slot gives way, a newer one stays."""
        word = signed.withdrawal
        place = (word.author, word.task, word.slot)
        with self._rows.write() as rows:
            before = rows.execute("SELECT version FROM words WHERE author = ? AND task = ? AND slot = ?", place).fetchone()
            if before is not None and before[0] >= word.version:
                return
            entry = (*place, word.version, canonical.encode(signed))
            rows.execute("INSERT OR REPLACE INTO words (author, task, slot, version, signed) VALUES (?, ?, ?, ?, ?)", entry)
            rows.execute("DELETE FROM words WHERE number <= (SELECT max(number) FROM words) - ?", (self._max,))

    def since(self, task: str, era: str, number: int) -> wire.Said:
        """What was said of a task after a number of an era, oldest first, a page at most; of another era: from the first."""
        start = number if era == self._era else 0
        query = "SELECT number, signed FROM words WHERE task = ? AND number > ? ORDER BY number LIMIT ?"
        found = self._rows.read(query, (task, min(max(start, 0), 2**63 - 1), PAGE))
        words = tuple(_decoder.decode(signed) for _, signed in found)
        return wire.Said(self._era, found[-1][0] if found else max(start, 0), words)

    def close(self) -> None:
        """Let go of the file. Calling it twice is fine."""
        self._rows.close()
