"""A process's stay in a vault folder: what it has begun and not finished, and how others see that it died.

A session is a folder of its own with a locked file in it. The operating system drops the lock when the process ends, however
it ends, so no process id (which is reused, and means nothing in another container) and no clock is needed to tell dead from
slow.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Session:
    """One open vault of one process."""

    def __init__(self, folder: Path) -> None:
        """Begin a session below `folder` (on the file system of the blobs: a rename must not copy)."""
        self.name = secrets.token_hex(8)
        self._folder, self._files = folder / self.name, 0
        with _exclusive(folder):
            self._folder.mkdir()
            self._lock: int | None = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    @property
    def open(self) -> bool:
        """Not closed yet."""
        return self._lock is not None

    def write(self, target: Path, content: bytes) -> None:
        """Make `target` hold `content`, or leave it as it was: complete, on the disk, and only then under its name.

        Raises:
            OSError: the disk is full or broken. Nothing is left behind.
        """
        self._files += 1
        part = self._folder / f"{self._files}.part"
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            try:
                _write_all(descriptor, content)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(part, target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        sync_folder(target.parent)

    def close(self) -> None:
        """End the session. Calling it twice is fine."""
        if self._lock is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(self._lock)
            self._lock = None


def bury(folder: Path) -> tuple[str, ...]:
    """Remove what dead sessions left below `folder`; the names of the living, sorted."""
    living = []
    with _exclusive(folder):
        for session in sorted(path for path in folder.iterdir() if path.is_dir()):
            if _alive(session / "lock"):
                living.append(session.name)
            else:
                shutil.rmtree(session, ignore_errors=True)
    return tuple(living)


def is_alive(folder: Path, name: str) -> bool:
    """Whether the process of a session below `folder` still runs."""
    return _alive(folder / name / "lock")


def sync_folder(folder: Path) -> None:
    """Put a folder's list of names on the disk: before that a power cut may undo a rename."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    # Beginning and burying exclude each other: a session is never seen before it holds its lock.
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _alive(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
