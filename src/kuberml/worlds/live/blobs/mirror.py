"""Copies of a vault where any static web server or bucket can give them out: blobs/3f/3f9c... and cards/ab/ab12...

A mirror is not trusted with anything: who reads from it verifies every piece against a signed card. Cards are there so that a
mirror can be found through, and a vault be made again from it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from kuberml.core.errors import ConfigError
from kuberml.core.ids import Digest
from kuberml.vault.folder import FolderStore
from kuberml.worlds.live.blobs.s3 import SCHEME, Bucket

STALL_S = 30.0


class Place(Protocol):
    """Where a mirror is made."""

    def size_bytes(self, path: str) -> int | None:
        """Of what is there under a path, or None."""
        ...

    def write(self, path: str, source: Path | bytes) -> None:
        """Put a file or some bytes there, all or nothing."""
        ...


class Folder:
    """A folder, for a web server to serve or a disk to carry."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def size_bytes(self, path: str) -> int | None:
        """See `Place`."""
        try:
            return (self._path / path).stat().st_size
        except FileNotFoundError:
            return None

    def write(self, path: str, source: Path | bytes) -> None:
        """See `Place`. Raises ConfigError: it cannot be written."""
        file = self._path / path
        half = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                with half.open("wb") as out:
                    if isinstance(source, bytes):
                        out.write(source)
                    else:
                        with source.open("rb") as content:
                            shutil.copyfileobj(content, out, 1 << 20)
                    out.flush()
                    os.fsync(out.fileno())
                half.rename(file)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    half.unlink()
        except OSError as error:
            raise ConfigError(f"cannot write {file}: {error.strerror or error}") from error


class Copied(NamedTuple):
    """What a mirror got, and what it had already."""

    new: int
    new_bytes: int
    known: int


def place_at(target: str) -> Place:
    """A folder or "s3://bucket/prefix".

    Raises:
        ConfigError: another kind of address.
        MissingExtra: a bucket, and obstore is not installed.
    """
    if target.startswith(SCHEME):
        return Bucket(target, STALL_S)
    if "://" in target:
        raise ConfigError(f"{target!r}: a mirror is made in a folder or at s3://bucket/prefix")
    return Folder(Path(target))


def mirror(store: FolderStore, place: Place, on_file: Callable[[str, int], None] = lambda path, size_bytes: None) -> Copied:
    """Copy what a vault's cards name, blobs first: a card that is in the mirror has its blobs there.

    What is there with the right size is not sent again. Blobs that are not in the vault (others hold them) are left out.

    Raises:
        ConfigError, Unreachable: the place cannot be written.
    """
    new = new_bytes = known = 0

    def put(path: str, source: Path | bytes, size_bytes: int) -> None:
        nonlocal new, new_bytes, known
        if place.size_bytes(path) == size_bytes:
            known += 1
            return
        place.write(path, source)
        on_file(path, size_bytes)
        new, new_bytes = new + 1, new_bytes + size_bytes

    for digest in store.blobs():
        size_bytes = store.size_bytes(digest)
        if size_bytes is not None:  # None: swept meanwhile
            put(blob_path(digest), store.path / blob_path(digest), size_bytes)
    for digest in store.cards():
        card = store.card(digest)
        put(card_path(digest), card, len(card))
    return Copied(new, new_bytes, known)


def blob_path(digest: Digest) -> str:
    """Where a blob lies, in a vault and in a mirror."""
    return f"blobs/{digest[:2]}/{digest}"


def card_path(digest: Digest) -> str:
    """Where a signed card lies in a mirror."""
    return f"cards/{digest[:2]}/{digest}"
