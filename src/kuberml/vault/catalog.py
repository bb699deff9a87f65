"""The catalog: which cards are about what, and who holds them. Finds by need, not by name."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec

from kuberml.core.database import Database
from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import Digest, NodeId, check_node
from kuberml.core.recent import Recent
from kuberml.knowledge.card import Card, SignedCard, encode_card
from kuberml.knowledge.signing import check_card
from kuberml.knowledge.want import Want
from kuberml.vault.matching import why_not

CARD_LIMIT_BYTES = 256 * 1024
"""A larger card is refused."""

SLOTS_PER_AUTHOR = 1024
"""An author who names more slots than this is refused."""

REMEMBERED_BYTES = 8 << 20
"""Of cards, as they are stored, that stay read and with their digest: every want is compared with all that may answer it."""

GAP = 1 << 20
"""Numbers left out at each opening: those of cards that have gone since."""

_FIRST = 1 << 48
_INT64 = range(2**63)
_SCHEMA = """
CREATE TABLE cards (
  id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, author TEXT NOT NULL, slot TEXT NOT NULL, version INTEGER NOT NULL,
  newest INTEGER NOT NULL, task TEXT NOT NULL, kind TEXT NOT NULL, learned_at_ms INTEGER NOT NULL, signed BLOB NOT NULL,
  UNIQUE (author, slot, version)
);
CREATE INDEX cards_of_task ON cards (task, newest, author, learned_at_ms DESC, digest);
CREATE TABLE labels (task TEXT, label TEXT, card INTEGER, PRIMARY KEY (task, label, card)) WITHOUT ROWID;
CREATE INDEX labels_of_card ON labels (card);
CREATE TABLE holders (card INTEGER, node TEXT, PRIMARY KEY (card, node)) WITHOUT ROWID;
CREATE INDEX holders_of_node ON holders (node);
CREATE TABLE slots (author TEXT, slot TEXT, withdrawn INTEGER NOT NULL, PRIMARY KEY (author, slot)) WITHOUT ROWID;
"""
# All cards that may answer a want, and some more (see `matching`); then the two orders in which the catalog gives them.
_MATCHING = """
SELECT id FROM cards
WHERE task = :task AND newest = 1 AND learned_at_ms > :newer_than_ms AND id > :since
  AND (:kinds IS NULL OR kind IN (SELECT value FROM json_each(:kinds)))
  AND (:labels IS NULL OR id IN
    (SELECT card FROM labels WHERE task = :task AND label IN (SELECT value FROM json_each(:labels))))
"""
_BY_TURNS = f"""{_MATCHING}
ORDER BY row_number() OVER (PARTITION BY author ORDER BY learned_at_ms DESC, digest), learned_at_ms DESC, digest
"""
_BY_NUMBER = f"{_MATCHING} ORDER BY id"
_decoder = msgspec.msgpack.Decoder(SignedCard)


class Catalog:
    """Signed cards by need. Only cards with a good signature get in; only the newest version of a slot is offered."""

    def __init__(self, path: Path | str = ":memory:", *, slots_per_author: int = SLOTS_PER_AUTHOR) -> None:
        """Open or make the catalog. It can be rebuilt from what nodes announce, so a power cut may cost its last entries.

        Args:
            path: the file, or ":memory:".
            slots_per_author: that are taken in; of somebody who names more, the rest is refused.

        Raises:
            ConfigError: the file is not a catalog or cannot be opened.
        """
        self._rows = Database(path, sort="catalog", version=1, schema=_SCHEMA, durable=False)
        self._slots_per_author = slots_per_author
        self._recent: Recent[tuple[SignedCard, int]] = Recent(REMEMBERED_BYTES, lambda kept: kept[1])
        # No number is used twice: not after a withdrawal, and not by a catalog that is made anew in place of one that is lost.
        before = _highest(self._rows.read("SELECT max(id) FROM cards"))
        self._floor = before + GAP if before else 0 if path == ":memory:" else secrets.randbelow(_FIRST)

    def add(self, signed: SignedCard, holder: NodeId, *, keep: int = 1) -> bool:
        """Take in a card that `holder` has. The newest `keep` versions of its (author, slot) stay.

        Returns:
            Whether the card is new here; False if only a holder was added.

        Raises:
            RemoteError: the signature or a number is bad, the card too large, the author has too many slots, the version
                is older than the `keep` here or was withdrawn, or is another card of a version that is here.
            ConfigError: keep is not above 0.
        """
        if keep < 1:
            raise ConfigError(f"keep must be 1 or more versions, not {keep!r}")
        encoded = _checked(signed)
        card, digest = signed.card, signed.digest
        with self._rows.write() as rows:
            known = rows.execute("SELECT id FROM cards WHERE digest = ?", (digest,)).fetchone()
            if known is None:
                _check_slots(rows, card.author, card.slot, self._slots_per_author)
            row = known[0] if known else _insert(rows, card, digest, encoded, keep, self._floor)
            self._floor = max(self._floor, row)
            rows.execute("INSERT OR IGNORE INTO holders VALUES (?, ?)", (row, check_node(holder)))
        return known is None

    def withdraw(self, author: str, slot: str, *, version: int | None = None) -> int:
        """Forget a slot up to a version (None: up to the newest here), for good: who announces it again is refused.

        Whoever calls this has checked that it is the author who asks.

        Returns:
            How many cards went.

        Raises:
            RemoteError: the version is not a number that can be kept, or the author has too many slots.
        """
        if version is not None and version not in _INT64:
            raise RemoteError(f"version of a withdrawal must be from 0 to 2^63 - 1, not {version}")
        with self._rows.write() as rows:
            _check_slots(rows, author, slot, self._slots_per_author)
            found = rows.execute("SELECT id, version FROM cards WHERE author = ? AND slot = ?", (author, slot)).fetchall()
            last = max((at for _, at in found), default=-1) if version is None else version
            gone = [row for row, at in found if at <= last]
            _delete(rows, gone)
            rows.execute(
                "INSERT INTO slots VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET withdrawn = max(withdrawn, excluded.withdrawn)",
                (author, slot, last),
            )
        return len(gone)

    @property
    def newest_number(self) -> int:
        """Every card has a number, higher than those of all that came before it; this is the newest one's."""
        return max(self._floor, _highest(self._rows.read("SELECT max(id) FROM cards")))

    def candidates(
        self, want: Want, now_ms: int, *, limit: int = 512, since: int = 0
    ) -> list[tuple[SignedCard, tuple[NodeId, ...]]]:
        """What may answer a want (`matching.why_not`), each with its holders, at least one, sorted.

        Only the newest version of each slot is offered. First comes the newest card of each author, then the second
        newest of each, and so on, so that nobody crowds others out by publishing much; ties by digest.

        Args:
            want: what is asked.
            now_ms: the time at which terms are judged.
            limit: cards at most.
            since: only cards with a higher number than this (see `newest_number`).
        """
        found = self._answering(_BY_TURNS, want, now_ms, since)
        return [(signed, holders) for _, signed, holders in islice(found, limit)]

    def arrived(self, want: Want, now_ms: int, *, since: int) -> Iterator[tuple[int, SignedCard, tuple[NodeId, ...]]]:
        """The same without a limit, in the order in which it came here, each with its number: for who wants all of it."""
        return self._answering(_BY_NUMBER, want, now_ms, since)

    def _answering(
        self, order: str, want: Want, now_ms: int, since: int
    ) -> Iterator[tuple[int, SignedCard, tuple[NodeId, ...]]]:
        for (row,) in self._rows.read(order, {**_narrowed(want), "since": since}):
            signed, holders = self._signed(row), self._holders(row)
            if holders and why_not(want, signed.card, now_ms=now_ms) is None:
                yield row, signed, holders

    def named(self, start: str, *, limit: int) -> list[tuple[SignedCard, tuple[NodeId, ...]]]:
        """Cards whose digest begins with `start` (hex characters), at most `limit`, each with its holders, sorted."""
        last = start + "g"  # beyond every digest that begins so
        found = self._rows.read(
            "SELECT id FROM cards WHERE digest BETWEEN ? AND ? ORDER BY digest LIMIT ?", (start, last, limit)
        )
        return [(self._signed(row), self._holders(row)) for (row,) in found]

    def card(self, digest: Digest) -> SignedCard | None:
        """The card of this digest, or None."""
        row = self._id(digest)
        return None if row is None else self._signed(row)

    def latest(self, author: str, slot: str) -> SignedCard | None:
        """The newest version of a slot, or None."""
        found = self._rows.read("SELECT id FROM cards WHERE author = ? AND slot = ? AND newest", (author, slot))
        return self._signed(found[0][0]) if found else None

    def cards(self) -> Iterator[SignedCard]:
        """All cards, sorted by digest."""
        return (_decoder.decode(row[0]) for row in self._rows.read("SELECT signed FROM cards ORDER BY digest"))

    def count(self) -> int:
        """How many cards there are."""
        return int(self._rows.read("SELECT count(*) FROM cards")[0][0])

    def holders(self, digest: Digest) -> tuple[NodeId, ...]:
        """Who has a card, sorted; () if nobody or no such card."""
        row = self._id(digest)
        return () if row is None else self._holders(row)

    def drop_holder(self, node: NodeId, digest: Digest | None = None) -> None:
        """Node has a card no longer, or is gone (None: holds nothing). A card that nobody holds is kept, not offered."""
        with self._rows.write() as rows:
            if digest is None:
                rows.execute("DELETE FROM holders WHERE node = ?", (node,))
            else:
                rows.execute(
                    "DELETE FROM holders WHERE node = ? AND card = (SELECT id FROM cards WHERE digest = ?)", (node, digest)
                )

    def close(self) -> None:
        """Let go of the file. Calling it twice is fine."""
        self._rows.close()

    def _id(self, digest: Digest) -> int | None:
        found = self._rows.read("SELECT id FROM cards WHERE digest = ?", (digest,))
        return int(found[0][0]) if found else None

    def _signed(self, row: int) -> SignedCard:
        """By its number, which is nobody else's ever."""
        return self._recent.get(row, lambda: self._read_card(row))[0]

    def _read_card(self, row: int) -> tuple[SignedCard, int]:
        encoded = self._rows.read("SELECT signed FROM cards WHERE id = ?", (row,))[0][0]
        return _decoder.decode(encoded), len(encoded)

    def _holders(self, row: int) -> tuple[NodeId, ...]:
        found = self._rows.read("SELECT node FROM holders WHERE card = ? ORDER BY node", (row,))
        return tuple(NodeId(node) for (node,) in found)


def _checked(signed: SignedCard) -> bytes:
    """The card's bytes, if it may come in."""
    encoded = encode_card(signed)
    if len(encoded) > CARD_LIMIT_BYTES:
        raise RemoteError(f"a card of {len(encoded)} bytes is over the limit of {CARD_LIMIT_BYTES}")
    check_card(signed)
    for name in ("version", "learned_at_ms"):
        if getattr(signed.card, name) not in _INT64:
            raise RemoteError(f"{name} of a card must be from 0 to 2^63 - 1, not {getattr(signed.card, name)}")
    return encoded


def _highest(found: list[tuple[int | None]]) -> int:
    return found[0][0] or 0


def _insert(rows: sqlite3.Connection, card: Card, digest: Digest, encoded: bytes, keep: int, floor: int) -> int:
    """Insert a new card with a number above `floor` and all others, drop those beyond `keep`, mark the newest; its row."""
    place = (card.author, card.slot)
    found = rows.execute("SELECT id, version FROM cards WHERE author = ? AND slot = ? ORDER BY version DESC", place).fetchall()
    _check_version(rows, card, [version for _, version in found], keep)
    newest = not found or card.version > found[0][1]
    if newest:
        rows.execute("UPDATE cards SET newest = 0 WHERE author = ? AND slot = ? AND newest", place)
    row = 1 + max(floor, _highest(rows.execute("SELECT max(id) FROM cards").fetchall()))
    rows.execute(
        "INSERT INTO cards (id, digest, author, slot, version, newest, task, kind, learned_at_ms, signed)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (row, digest, *place, card.version, newest, card.task, card.kind, card.learned_at_ms, encoded),
    )
    rows.executemany(
        "INSERT INTO labels VALUES (?, ?, ?)", [(card.task, label, row) for label, count in card.labels.items() if count > 0]
    )
    kept = sorted([(-version, other) for other, version in found] + [(-card.version, row)])
    _delete(rows, [other for _, other in kept[keep:]])
    return row


def _check_version(rows: sqlite3.Connection, card: Card, versions: list[int], keep: int) -> None:
    place, name = (card.author, card.slot), f"slot {card.slot!r} of {card.author[:12]}..."
    slot = _withdrawn(rows, *place)
    if slot is None:
        rows.execute("INSERT INTO slots VALUES (?, ?, -1)", place)
    elif card.version <= slot:
        raise RemoteError(f"version {card.version} of {name} was withdrawn by its author")
    if card.version in versions:
        raise RemoteError(f"two different cards are signed as version {card.version} of {name}: the first stays")
    if sum(version > card.version for version in versions) >= keep:
        raise RemoteError(f"version {card.version} of {name} is older than version {versions[0]}, which is here")


def _withdrawn(rows: sqlite3.Connection, author: str, slot: str) -> int | None:
    """Up to which version a slot was withdrawn, -1: never; None: it is new here."""
    found = rows.execute("SELECT withdrawn FROM slots WHERE author = ? AND slot = ?", (author, slot)).fetchone()
    return None if found is None else int(found[0])


def _check_slots(rows: sqlite3.Connection, author: str, slot: str, most: int) -> None:
    """Whether there is room for an author's slot: it is known here, or not too many are."""
    if _withdrawn(rows, author, slot) is None:
        known = rows.execute("SELECT count(*) FROM slots WHERE author = ?", (author,)).fetchone()[0]
        if known >= most:
            raise RemoteError(f"{author[:12]}... has {known} slots here already: no more")


def _delete(rows: sqlite3.Connection, gone: list[int]) -> None:
    for table, column in (("labels", "card"), ("holders", "card"), ("cards", "id")):
        rows.executemany(f"DELETE FROM {table} WHERE {column} = ?", [(row,) for row in gone])  # noqa: S608 - names of ours


def _narrowed(want: Want) -> dict[str, object]:
    """Parameters of `_MATCHING`."""
    return {
        "task": want.task,
        "newer_than_ms": min(want.newer_than_ms, _INT64[-1]) if want.newer_than_ms > 0 else -1,
        "kinds": json.dumps(want.kinds) if want.kinds else None,
        "labels": json.dumps(list(want.labels_ppm)) if want.labels_ppm else None,
    }
