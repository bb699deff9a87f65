"""A hub's folder, saved while the hub serves, and brought back. Works for any vault folder.

First the vault's index is copied, and in the same moment its blobs are pinned, so that nobody sweeps them away; then the other
databases, each as it is at one moment (SQLite's backup), then the blobs. What was deleted nevertheless is struck out of the
copies: they never name a blob that is not there. Blobs are linked where the file system allows it: they are never changed, only
removed, so a link is as good as a copy and costs nothing; only a broken disk spoils both (`copy=True`).

A backup holds the hub's secret keys: it is made for its owner's eyes only (mode 700).
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from kuberml import __version__
from kuberml.core.damage import NOT_JSON
from kuberml.core.errors import ConfigError
from kuberml.vault.folder import FolderStore
from kuberml.worlds.live.hub.appearing import appearing
from kuberml.worlds.live.hub.saved_files import (
    MANIFEST,
    blob_files,
    copy_database,
    copy_file,
    files_of,
    fingerprint,
    sync,
    take_blobs,
    write,
)
from kuberml.worlds.live.names import HUB

FORMAT = "kuberml.backup/1"
INDEX = Path("index.sqlite")


class Manifest(msgspec.Struct, frozen=True):
    """What is in a backup, for checking it."""

    format: str
    software: str
    made_at_ms: int
    files: dict[str, tuple[int, str]]  # path -> bytes, BLAKE3
    blobs: int
    blob_bytes: int


class Summary(msgspec.Struct, frozen=True):
    """What a backup or a restore has done."""

    files: int
    cards: int
    blobs: int
    blob_bytes: int
    linked: int = 0  # of the blobs
    left_out: int = 0  # cards whose blobs were gone or damaged


def backup(folder: Path, target: Path, *, copy: bool = False) -> Summary:
    """Save a folder, which may be in use. What a backup that was killed has left beside `target` is removed.

    Args:
        folder: of a hub, or a vault.
        target: must not be there, or be empty; it appears when it is complete.
        copy: never link blobs.

    Raises:
        ConfigError: `folder` is not a vault, or `target` is taken.
        OSError: the disk is full or broken; nothing is left behind.
    """
    if not (folder / INDEX).is_file():
        raise ConfigError(f"{folder} is not a hub's folder and not a vault: there is no index.sqlite in it")
    with FolderStore(folder) as store, appearing(target) as made:
        databases, others = files_of(folder)
        with store.held_still():  # what the copy names is what is pinned
            copy_database(folder / INDEX, made / INDEX)
        for name in databases:
            if name != INDEX:
                copy_database(folder / name, made / name)
        for name in others:
            copy_file(folder / name, made / name)
        count, linked = take_blobs(folder / "blobs", made / "blobs", copy=copy)
        left_out, cards = make_consistent(made)
        sizes = [path.stat().st_size for path in blob_files(made / "blobs")]
        files = {str(name): fingerprint(made / name) for name in (*databases, *others)}
        manifest = Manifest(FORMAT, __version__, time.time_ns() // 1_000_000, files, len(sizes), sum(sizes))
        write(made / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
    return Summary(len(files), cards, count, sum(sizes), linked, left_out)


def restore(source: Path, folder: Path, *, salvage: bool = False) -> Summary:
    """Bring a backup back into a folder of its own, every byte checked on the way.

    Args:
        source: what `backup` made.
        folder: must not be there, or be empty; it appears when it is complete.
        salvage: leave out cards whose blobs are damaged or missing, instead of refusing.

    Raises:
        ConfigError: not a backup, a damaged one (and which file), or `folder` is taken.
        OSError: the disk is full or broken; nothing is left behind.
    """
    manifest = _manifest(source)
    with appearing(folder) as made:
        for name, expected in manifest.files.items():
            copy_file(source / name, made / name, limit_bytes=None)
            if fingerprint(made / name) != tuple(expected):
                raise ConfigError(f"{source / name} is damaged: it is not what the backup was made of")
        damaged, count, size_bytes = [], 0, 0
        for path in blob_files(source / "blobs"):
            there = made / "blobs" / path.parent.name / path.name
            copy_file(path, there, limit_bytes=None)
            if fingerprint(there)[1] != path.name:
                damaged.append(path)
                there.unlink()
            else:
                count, size_bytes = count + 1, size_bytes + there.stat().st_size
        (made / "blobs").mkdir(exist_ok=True)
        if not salvage and (damaged or count != manifest.blobs):
            missing = f"{damaged[0]} and {len(damaged) - 1} more" if damaged else f"{manifest.blobs - count} blobs"
            raise ConfigError(f"{missing} in the backup are damaged or missing; `--salvage` restores everything else")
        left_out, cards = make_consistent(made)
        if left_out and not salvage:
            raise ConfigError(f"{left_out} cards in the backup name blobs that are not there; `--salvage` leaves them out")
    return Summary(len(manifest.files), cards, count, size_bytes, 0, left_out)


def make_consistent(folder: Path) -> tuple[int, int]:
    """Check the databases of a folder that nobody uses, and strike out what names blobs that are not there.

    Returns:
        Cards that were struck out, and those that stay.

    Raises:
        ConfigError: a database is damaged.
    """
    for path in sorted(folder.glob("*.sqlite")):
        with _opened(path) as rows:
            (found,) = rows.execute("PRAGMA integrity_check").fetchone()
            if found != "ok":
                raise ConfigError(f"{path} is damaged: {found:.200}")
    there = {path.name for path in blob_files(folder / "blobs")}
    with _opened(folder / INDEX) as rows:
        refs = rows.execute("SELECT blob, card FROM refs").fetchall()
        gone = sorted({card for blob, card in refs if blob not in there})
        rows.executemany("DELETE FROM refs WHERE card = ?", [(card,) for card in gone])
        rows.executemany("DELETE FROM cards WHERE digest = ?", [(card,) for card in gone])
        rows.execute("DELETE FROM pins")
        kept = {card for (card,) in rows.execute("SELECT digest FROM cards")}
    if (folder / "catalog.sqlite").is_file():
        with _opened(folder / "catalog.sqlite") as rows:
            held = rows.execute(
                "SELECT cards.digest, cards.id FROM cards JOIN holders ON holders.card = cards.id WHERE holders.node = ?",
                (HUB,),
            ).fetchall()
            unheld = [(row, HUB) for digest, row in held if digest not in kept]
            rows.executemany("DELETE FROM holders WHERE card = ? AND node = ?", unheld)
    return len(gone), len(kept)


def _manifest(source: Path) -> Manifest:
    try:
        manifest = msgspec.json.decode((source / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, *NOT_JSON) as error:
        raise ConfigError(f"{source} is not a backup, or not a complete one: {error}") from error
    if manifest.format != FORMAT:
        raise ConfigError(f"{source} is a backup of form {manifest.format!r:.60}; this kuberml reads {FORMAT}")
    for name in manifest.files:
        if Path(name).is_absolute() or ".." in Path(name).parts or (source / name).is_symlink():
            raise ConfigError(f"{source / MANIFEST} names {name!r:.80}, which is outside the backup")
        if not (source / name).is_file():
            raise ConfigError(f"{source / name} is missing: the backup is not complete")
    return manifest


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with contextlib.closing(sqlite3.connect(path)) as rows, rows:
            yield rows
    except sqlite3.DatabaseError as error:
        raise ConfigError(f"{path} is damaged: {error}") from error
    sync(path)
