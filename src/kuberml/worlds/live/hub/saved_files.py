"""The files of a hub's folder: which belong to it, and how each is copied so that it is whole and on the disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import blake3

from kuberml.core.database import APPLICATION_ID
from kuberml.core.errors import ConfigError

MANIFEST = "backup.json"
SKIPPED_FOLDERS = frozenset({"blobs", "sessions", "parts"})
SKIPPED_ENDS = ("-wal", "-shm", "-journal", ".lock", ".part")
FILE_LIMIT_BYTES = 64 << 20
"""Of files that are neither blobs nor databases: keys, the roll, settings."""


def files_of(folder: Path) -> tuple[list[Path], list[Path]]:
    """Databases, and the other files that belong to a folder; relative to it."""
    databases: list[Path] = []
    others: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - (SKIPPED_FOLDERS if Path(place) == folder else set()))
        for name in sorted(names):
            path = Path(place, name)
            if path.is_symlink() or not path.is_file() or name.endswith(SKIPPED_ENDS) or name == MANIFEST:
                continue
            (databases if name.endswith(".sqlite") else others).append(path.relative_to(folder))
    return databases, others


def copy_database(source: Path, target: Path) -> None:
    """As it is at one moment. Raises ConfigError: it is not one of ours."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        contextlib.closing(sqlite3.connect(source, timeout=30)) as reading,
        contextlib.closing(sqlite3.connect(target)) as made,
    ):
        (owner,) = reading.execute("PRAGMA application_id").fetchone()
        if owner != APPLICATION_ID:
            raise ConfigError(f"{source} is not a database of kuberml: move it elsewhere")
        reading.backup(made)  # in one step: one moment, however busy the writers are
        made.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
    sync(target)


def copy_file(source: Path, target: Path, *, limit_bytes: int | None = FILE_LIMIT_BYTES) -> None:
    """Whole, with its mode, on the disk. Raises ConfigError: it is over `limit_bytes`."""
    status = source.stat()
    if limit_bytes is not None and status.st_size > limit_bytes:
        raise ConfigError(f"{source} has {status.st_size} bytes: it does not look like a part of a hub; move it elsewhere")
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, status.st_mode & 0o777)
    with open(descriptor, "wb") as writing, source.open("rb") as reading:
        shutil.copyfileobj(reading, writing, 1 << 20)
        writing.flush()
        os.fsync(writing.fileno())


def take_blobs(source: Path, target: Path, *, copy: bool) -> tuple[int, int]:
    """Link or copy all blobs; how many, and how many of them were linked. What is deleted meanwhile is left out."""
    count = linked = 0
    target.mkdir(exist_ok=True)
    for path in blob_files(source):
        there = target / path.parent.name / path.name
        there.parent.mkdir(exist_ok=True)
        try:
            if not copy and _linked(path, there):
                linked += 1
            else:
                copy_file(path, there, limit_bytes=None)
        except FileNotFoundError:
            there.unlink(missing_ok=True)
            continue
        count += 1
    return count, linked


def _linked(path: Path, there: Path) -> bool:
    try:
        os.link(path, there)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        return False
    return True


def blob_files(blobs: Path) -> Iterator[Path]:
    """What lies below a vault's `blobs`, sorted; links and foreign names are passed over."""
    for folder in sorted(path for path in blobs.glob("[0-9a-f][0-9a-f]") if path.is_dir()):
        with contextlib.suppress(FileNotFoundError):
            for name in sorted(os.listdir(folder)):
                if len(name) == 64 and not (folder / name).is_symlink():
                    yield folder / name


def fingerprint(path: Path) -> tuple[int, str]:
    """Bytes and BLAKE3 of a file."""
    hasher = blake3.blake3()
    with path.open("rb") as reading:
        while part := reading.read(1 << 20):
            hasher.update(part)
        return reading.tell(), hasher.hexdigest()


def write(path: Path, content: bytes) -> None:
    """A new file, on the disk."""
    path.write_bytes(content)
    sync(path)


def sync(path: Path) -> None:
    """Wait until a file is on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
