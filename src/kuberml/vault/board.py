"""The verdict board: what witnesses said of which card, one verdict each, the newest. A restarted hub reads it again.

It is bounded three ways: witnesses of a card, cards, verdicts in all. Where it is full, the author who fills it most gives
way with the card that was heard of longest ago: a flood of one author's cards costs that author's own.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from kuberml.core import canonical
from kuberml.core.database import Database
from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import Digest
from kuberml.knowledge.verdict import SignedVerdict

MAX_WITNESSES = 256
"""Verdicts kept per card; one per witness, the newest."""
MAX_CARDS = 16_384
MAX_VERDICTS = 262_144
"""In all; about 500 bytes each on the disk, twice that in a hub's memory."""

_SCHEMA = """
CREATE TABLE cards (
  card TEXT PRIMARY KEY, author TEXT NOT NULL, witnesses INTEGER NOT NULL, heard INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX cards_of_author ON cards (author, heard, witnesses);
CREATE INDEX cards_by_heard ON cards (heard);
CREATE TABLE verdicts (
  card TEXT, witness TEXT, came_ms INTEGER NOT NULL, at_ms INTEGER NOT NULL, digest TEXT NOT NULL, signed BLOB NOT NULL,
  PRIMARY KEY (card, witness)
) WITHOUT ROWID;
CREATE TABLE size (cards INTEGER NOT NULL, verdicts INTEGER NOT NULL);
INSERT INTO size VALUES (0, 0);
"""
_decoder = msgspec.msgpack.Decoder(SignedVerdict)


class Taken(msgspec.Struct, frozen=True):
    """What came of putting a verdict on the board."""

    counts: bool  # it is its witness's newest on that card: what stood there before is gone
    evicted: tuple[Digest, ...] = ()  # cards that gave way, with all their verdicts


class Board:
    """Signed verdicts by card and witness. Who puts one here has checked it (`knowledge.verdict.check_verdict`)."""

    def __init__(self, path: Path | str = ":memory:", *, max_cards: int = MAX_CARDS, max_verdicts: int = MAX_VERDICTS) -> None:
        """Open or make the board. It survives kill -9; a power cut may cost its last entries.

        Args:
            path: the file, or ":memory:".
            max_cards, max_verdicts: its bounds, each above 0.

        Raises:
            ConfigError: the file is not a board or cannot be opened, or a bound is not above 0.
        """
        if min(max_cards, max_verdicts) < 1:
            raise ConfigError(f"a board of {max_cards} cards and {max_verdicts} verdicts: both must be 1 or more")
        self._max_cards, self._max_verdicts = max_cards, max_verdicts
        self._rows = Database(path, sort="verdict board", version=1, schema=_SCHEMA, durable=False)

    def put(self, signed: SignedVerdict, came_ms: int) -> Taken:
        """Take in a checked verdict. Of two that a witness gave at the same time the one with the larger digest counts.

        Args:
            signed: the verdict.
            came_ms: this board's clock.

        Raises:
            RemoteError: the card has MAX_WITNESSES other witnesses, or its witness has said something newer.
        """
        verdict, digest = signed.verdict, signed.verdict.digest
        with self._rows.write() as rows:
            place = (verdict.card, verdict.witness)
            before = rows.execute("SELECT at_ms, digest FROM verdicts WHERE card = ? AND witness = ?", place).fetchone()
            if before is None:
                _check_room(rows, verdict.card)
            elif verdict.at_ms < before[0]:
                raise RemoteError("a verdict older than its witness's last one on this card")
            elif (verdict.at_ms, digest) < before:
                return Taken(counts=False)
            entry = (*place, came_ms, verdict.at_ms, digest, canonical.encode(signed))
            rows.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?, ?)", entry)
            _count(rows, verdict.card, verdict.author, new=before is None)
            return Taken(counts=True, evicted=tuple(self._make_room(rows, verdict.card)))

    def about(self, cards: Collection[Digest], since_ms: int = 0) -> list[tuple[int, SignedVerdict]]:
        """(when it came, verdict) of these cards from a time of this board on: cards as asked for, of each by witness."""
        found: dict[str, list[tuple[int, SignedVerdict]]] = {}
        query = (
            "SELECT card, came_ms, signed FROM verdicts WHERE card IN (SELECT value FROM json_each(?)) AND came_ms >= ?"
            " ORDER BY card, witness"
        )
        for card, came_ms, signed in self._rows.read(query, (json.dumps(list(cards)), max(0, min(since_ms, 2**63 - 1)))):
            found.setdefault(card, []).append((came_ms, _decoder.decode(signed)))
        return [entry for card in dict.fromkeys(cards) for entry in found.get(card, ())]

    def verdicts(self) -> Iterator[SignedVerdict]:
        """All of them, by card and witness; a hub that starts reads them once."""
        last = ("", "")
        while rows := self._rows.read(
            "SELECT card, witness, signed FROM verdicts WHERE (card, witness) > (?, ?) ORDER BY card, witness LIMIT 1024", last
        ):
            yield from (_decoder.decode(signed) for _, _, signed in rows)
            last = rows[-1][:2]

    def size(self) -> tuple[int, int]:
        """Cards and verdicts here."""
        cards, verdicts = self._rows.read("SELECT cards, verdicts FROM size")[0]
        return cards, verdicts

    def close(self) -> None:
        """Let go of the file. Calling it twice is fine."""
        self._rows.close()

    def _make_room(self, rows: sqlite3.Connection, newest: Digest) -> Iterator[Digest]:
        """Drop cards, never the one just heard of, until the board is within its bounds."""
        for column, measure, bound in (
            ("cards", "count(*)", self._max_cards),
            ("verdicts", "sum(witnesses)", self._max_verdicts),
        ):
            while rows.execute(f"SELECT {column} FROM size").fetchone()[0] > bound:  # noqa: S608 - two columns of ours
                gone = rows.execute(
                    "SELECT card, witnesses FROM cards WHERE card != ? AND author ="  # noqa: S608 - two measures of ours
                    f" (SELECT author FROM cards GROUP BY author HAVING max(card != ?) ORDER BY {measure} DESC, author LIMIT 1)"
                    " ORDER BY heard LIMIT 1",
                    (newest, newest),
                ).fetchone()
                if gone is None:  # this card alone is all there is
                    return
                rows.execute("DELETE FROM verdicts WHERE card = ?", gone[:1])
                rows.execute("DELETE FROM cards WHERE card = ?", gone[:1])
                rows.execute("UPDATE size SET cards = cards - 1, verdicts = verdicts - ?", gone[1:])
                yield Digest(gone[0])


def _check_room(rows: sqlite3.Connection, card: Digest) -> None:
    found = rows.execute("SELECT witnesses FROM cards WHERE card = ?", (card,)).fetchone()
    if found is not None and found[0] >= MAX_WITNESSES:
        raise RemoteError(f"the board keeps {MAX_WITNESSES} verdicts on a card, no more")


def _count(rows: sqlite3.Connection, card: Digest, author: str, *, new: bool) -> None:
    heard = rows.execute("SELECT coalesce(max(heard), 0) + 1 FROM cards").fetchone()[0]
    known = rows.execute("UPDATE cards SET witnesses = witnesses + ?, heard = ? WHERE card = ?", (new, heard, card)).rowcount
    if not known:
        rows.execute("INSERT INTO cards VALUES (?, ?, 1, ?)", (card, author, heard))
    rows.execute("UPDATE size SET cards = cards + ?, verdicts = verdicts + ?", (not known, new))
