"""Where pieces lie: hash -> (blob, start), from the cards of a vault. Derived: it may be deleted, and is made again.

It is a file of its own, so that a vault that an older kuberml wrote needs no other index.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from kuberml.core.database import Database
from kuberml.core.ids import Digest
from kuberml.knowledge.card import Card
from kuberml.knowledge.pieces import shared_pieces

_SCHEMA = """
CREATE TABLE pieces (hash BLOB, blob TEXT, start INTEGER, PRIMARY KEY (hash, blob)) WITHOUT ROWID;
CREATE INDEX pieces_of_blob ON pieces (blob);
CREATE TABLE built (at_once INTEGER PRIMARY KEY);
"""
_ASKED = 500
"""Hashes in one query."""


class PieceIndex:
    """See the module."""

    def __init__(self, path: Path, cards: Callable[[], Iterator[Card]]) -> None:
        """`cards`: all cards that are here, for the first time."""
        self._path, self._cards = path, cards
        self._lock = threading.Lock()
        self._opened: Database | None = None

    def add(self, card: Card) -> None:
        """Remember where the pieces of a card's blobs are. Raises OSError."""
        rows = list(shared_pieces(card))
        if rows:
            with self._database().write() as index:
                index.executemany("INSERT OR IGNORE INTO pieces VALUES (?, ?, ?)", rows)

    def drop(self, blobs: Collection[Digest]) -> None:
        """Forget the pieces of blobs that are gone. Raises OSError."""
        if blobs and self._path.exists():
            with self._database().write() as index:
                index.executemany("DELETE FROM pieces WHERE blob = ?", [(blob,) for blob in blobs])

    def find(self, hashes: Collection[bytes], is_here: Callable[[Digest], bool]) -> dict[bytes, tuple[Digest, int]]:
        """See `Store.find_pieces`."""
        asked, found = list(dict.fromkeys(hashes)), {}
        here: dict[Digest, bool] = {}
        for at in range(0, len(asked), _ASKED):
            some = asked[at : at + _ASKED]
            holes = ",".join("?" * len(some))
            rows = self._database().read(f"SELECT hash, blob, start FROM pieces WHERE hash IN ({holes})", some)  # noqa: S608
            for hash_, name, start in rows:
                blob = Digest(name)
                if blob not in here:
                    here[blob] = is_here(blob)
                if here[blob]:
                    found[bytes(hash_)] = (blob, int(start))
        return found

    def close(self) -> None:
        """Let go of the file. Calling it twice is fine."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()

    def _database(self) -> Database:
        """Opened when it is first needed: most vaults hold small blobs only."""
        with self._lock:
            if self._opened is None:
                found = Database(self._path, sort="index of pieces", version=1, schema=_SCHEMA, durable=False)
                if not found.read("SELECT 1 FROM built"):
                    rows = [row for card in self._cards() for row in shared_pieces(card)]
                    with found.write() as index:
                        index.executemany("INSERT OR IGNORE INTO pieces VALUES (?, ?, ?)", rows)
                        index.execute("INSERT OR IGNORE INTO built VALUES (1)")
                self._opened = found
            return self._opened
