"""The embedded vault: a folder of blobs and one SQLite file.

    blobs/3f/3f9c...   a blob, named by its digest: its being there is the truth, there is no second list of it
                       (256 sub-folders, made when they are needed)
    parts/             blobs under way (see `parts`)
    sessions/          what running processes have begun (see `session`)
    index.sqlite       signed cards, which blobs they refer to, memory; pins
    pieces.sqlite      where the pieces of large blobs lie; derived from the cards

A blob that has been put and that no card refers to yet is *pinned* by the session that put it, so that a sweep in another
process does not take it away before its card comes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType

from kuberml.core.database import Database
from kuberml.core.errors import ConfigError, InternalError
from kuberml.core.ids import Digest, check_digest, digest_of
from kuberml.core.shelf import read_at
from kuberml.knowledge.card import Card, decode_card
from kuberml.vault.file_part import FilePart
from kuberml.vault.parts import Parts
from kuberml.vault.piece_index import PieceIndex
from kuberml.vault.session import Session, bury, sync_folder

_SCHEMA = """
CREATE TABLE cards (digest TEXT PRIMARY KEY, signed BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE refs (blob TEXT, card TEXT, PRIMARY KEY (blob, card)) WITHOUT ROWID;
CREATE INDEX refs_of_card ON refs (card);
CREATE TABLE pins (blob TEXT, session TEXT, PRIMARY KEY (blob, session)) WITHOUT ROWID;
CREATE TABLE memory (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""


class FolderStore:
    """A `core.seam.Store` in a folder. Safe against kill -9 at any moment; several processes may open one folder."""

    def __init__(self, path: Path | str, *, durable: bool = True) -> None:
        """Open the vault at `path`, made at the first time, and remove what dead processes left half-done.

        Args:
            path: the folder.
            durable: a card or memory that was written survives a power cut. If False it survives kill -9 only, and
                the last few may be missing after a power cut (never half of one; blobs are always on the disk).

        Raises:
            ConfigError: the path is a file, cannot be written, or holds something else.
        """
        self.path = Path(path)
        self._blobs, self._sessions = self.path / "blobs", self.path / "sessions"
        self._make_folders()
        self._index = Database(self.path / "index.sqlite", sort="vault index", version=1, schema=_SCHEMA, durable=durable)
        self._session = Session(self._sessions)
        self._parts = Parts(self.path / "parts", self._sessions, self._session.name, self._keep)
        self._pieces = PieceIndex(self.path / "pieces.sqlite", self._every_card)
        living = bury(self._sessions)
        with self._index.write() as index:
            holes = ",".join("?" * len(living))
            index.execute(f"DELETE FROM pins WHERE session NOT IN ({holes})", living)  # noqa: S608 - only question marks

    def put(self, blob: bytes) -> Digest:
        """Keep a blob; keeping it twice is keeping it once. Raises OSError when the disk is full or broken."""
        digest = digest_of(blob)
        file = self._place(digest)
        if not file.exists():
            self._session.write(file, blob)
        return digest

    def part(self, digest: Digest, size_bytes: int) -> FilePart:
        """A blob under way: what a delivery that was cut off left of it, or an empty one. See `parts`, and the seam.

        Raises:
            OSError: the disk is full or broken.
        """
        return self._parts.open(check_digest(digest), size_bytes)

    def find_pieces(self, hashes: Collection[bytes]) -> dict[bytes, tuple[Digest, int]]:
        """Where pieces with these hashes may be read here: (blob, start). Not verified. Raises OSError."""
        return self._pieces.find(hashes, lambda blob: self.size_bytes(blob) is not None)

    def get(self, digest: Digest) -> bytes:
        """The blob, verified while read.

        Raises:
            KeyError: not here.
            InternalError: the disk gave other bytes; the blob is dropped.
        """
        file = self._file(digest)
        try:
            blob = file.read_bytes()
        except FileNotFoundError:
            raise KeyError(digest) from None
        if digest_of(blob) != digest:
            file.unlink(missing_ok=True)
            raise InternalError(f"the disk gave other bytes for blob {digest[:12]}...: dropped, fetch it again")
        return blob

    def read(self, digest: Digest, start: int, stop: int) -> bytes:
        """Bytes start..stop of a blob, not verified. Raises KeyError: not here. ValueError: outside the blob."""
        descriptor = self.descriptor(digest)
        try:
            size = os.fstat(descriptor).st_size
            if not 0 <= start <= stop <= size:
                raise ValueError(f"bytes {start}..{stop} are outside a blob of {size} bytes")
            return read_at(descriptor, start, stop)
        finally:
            os.close(descriptor)

    def descriptor(self, digest: Digest) -> int:
        """The blob's file, opened for reading; the caller closes it, and may read on after the blob is forgotten.

        Raises:
            KeyError: not here.
        """
        try:
            return os.open(self._file(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise KeyError(digest) from None

    def size_bytes(self, digest: Digest) -> int | None:
        """Size of a blob, or None if it is not here."""
        try:
            return self._file(digest).stat().st_size
        except FileNotFoundError:
            return None

    def delete(self, digest: Digest) -> None:
        """Forget a blob; nothing happens if it is not here."""
        self._file(digest).unlink(missing_ok=True)

    def blobs(self) -> Iterator[Digest]:
        """Digests of all blobs here, sorted."""
        for subfolder in sorted(os.listdir(self._blobs)):
            yield from sorted(Digest(name) for name in os.listdir(self._blobs / subfolder))

    def put_card(self, digest: Digest, card: bytes) -> None:
        """Keep an encoded signed card under its card's digest (not the digest of these bytes: they carry the signature).

        Raises:
            RemoteError: these bytes are not a card.
            InternalError: they are another card's.
            OSError: the disk is full or broken.
        """
        signed = decode_card(card)
        if signed.digest != digest:
            raise InternalError(f"card {signed.digest[:12]}... was to be kept as {digest[:12]}...")
        blobs = [ref.digest for ref in signed.card.blobs]
        with self._index.write() as index:
            index.execute("INSERT OR REPLACE INTO cards VALUES (?, ?)", (digest, card))
            index.executemany("INSERT OR IGNORE INTO refs VALUES (?, ?)", [(blob, digest) for blob in blobs])
            index.executemany("DELETE FROM pins WHERE blob = ? AND session = ?", [(b, self._session.name) for b in blobs])
        self._pieces.add(signed.card)

    def card(self, digest: Digest) -> bytes:
        """The encoded signed card. Raises KeyError: not here."""
        rows = self._index.read("SELECT signed FROM cards WHERE digest = ?", (digest,))
        if not rows:
            raise KeyError(digest)
        return bytes(rows[0][0])

    def cards(self) -> Iterator[Digest]:
        """Digests of all cards here, sorted."""
        return (Digest(row[0]) for row in self._index.read("SELECT digest FROM cards ORDER BY digest"))

    def delete_card(self, digest: Digest) -> None:
        """Forget a card; nothing happens if it is not here. Its blobs stay until a `sweep`: others may refer to them."""
        with self._index.write() as index:
            index.execute("DELETE FROM refs WHERE card = ?", (digest,))
            index.execute("DELETE FROM cards WHERE digest = ?", (digest,))

    def memory(self) -> dict[str, bytes]:
        """All remembered entries, sorted by key."""
        return {key: bytes(entry) for key, entry in self._index.read("SELECT key, value FROM memory ORDER BY key")}

    def remember(self, entries: Mapping[str, bytes | None]) -> None:
        """Write several entries in one transaction; None forgets one. Raises OSError when the disk is full or broken."""
        with self._index.write() as index:
            for key, entry in entries.items():
                if entry is None:
                    index.execute("DELETE FROM memory WHERE key = ?", (key,))
                else:
                    index.execute("INSERT OR REPLACE INTO memory VALUES (?, ?)", (key, entry))

    @contextlib.contextmanager
    def held_still(self) -> Iterator[None]:
        """No card comes or goes inside this block, and until this store is closed no sweep takes what cards refer to now."""
        with self._index.write() as index:
            index.execute("INSERT OR IGNORE INTO pins SELECT DISTINCT blob, ? FROM refs", (self._session.name,))
            yield

    def sweep(self, keep: Iterable[Digest] = ()) -> int:
        """Delete the blobs that no card refers to, no living session has pinned, and `keep` does not name.

        Memory may refer to blobs in ways the store cannot read: its owner names them in `keep`.

        Returns:
            Bytes freed.
        """
        kept, freed_bytes = set(keep), 0
        for subfolder in sorted(os.listdir(self._blobs)):
            # One short transaction each: nobody can pin or refer to a blob between the question and the deletion.
            with self._index.write() as index:
                wanted = kept.union(
                    row[0]
                    for table in ("refs", "pins")
                    for row in index.execute(
                        f"SELECT blob FROM {table} WHERE blob >= ? AND blob < ?",  # noqa: S608 - two names of ours
                        (subfolder, subfolder + "g"),
                    )
                )
                gone = [Digest(name) for name in sorted(set(os.listdir(self._blobs / subfolder)) - wanted)]
                for blob in gone:
                    freed_bytes += self.size_bytes(blob) or 0
                    self.delete(blob)
            self._pieces.drop(gone)
        return freed_bytes + self._parts.sweep(lambda blob: self.size_bytes(blob) is not None)

    def close(self) -> None:
        """End this process's stay: what it pinned may be swept. Calling it twice is fine."""
        self._parts.close()
        if self._session.open:
            with self._index.write() as index:
                index.execute("DELETE FROM pins WHERE session = ?", (self._session.name,))
            self._session.close()
        self._pieces.close()
        self._index.close()

    def __enter__(self) -> FolderStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _file(self, digest: Digest) -> Path:
        return self._blobs / check_digest(digest)[:2] / digest

    def _place(self, digest: Digest) -> Path:
        """Where a blob goes that is about to come: pinned first, from here on no sweep takes it."""
        with self._index.write() as index:
            index.execute("INSERT OR IGNORE INTO pins VALUES (?, ?)", (digest, self._session.name))
        file = self._file(digest)
        if not file.parent.exists():
            file.parent.mkdir(exist_ok=True)
            sync_folder(self._blobs)
        return file

    def _keep(self, digest: Digest, part: Path) -> None:
        """Move a complete part to the blobs."""
        file = self._place(digest)
        os.replace(part, file)
        sync_folder(file.parent)

    def _every_card(self) -> Iterator[Card]:
        return (decode_card(self.card(digest)).card for digest in self.cards())

    def _make_folders(self) -> None:
        try:
            for folder in (self._blobs, self._sessions, self.path / "parts"):
                folder.mkdir(parents=True, exist_ok=True)
            sync_folder(self.path)
        except OSError as error:
            raise ConfigError(f"cannot use {self.path} as a vault: {error}; give a folder that can be written") from error
