"""A folder that is there when it is complete. While it is made it lies beside, under a name of its own, for its owner only.

Whoever makes one holds a lock in it. The system drops the lock when that process ends, however it ends, so the next one here
sees what a killed one has left, and removes it: there are secret keys in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from kuberml.core.errors import ConfigError
from kuberml.vault.session import sync_folder

LOCK = "making.lock"
_PART = re.compile(r"\..+\.[0-9a-f]{12}\.part")


@contextlib.contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """A folder that appears under its name when it is complete, or not at all. Raises ConfigError: the name is taken."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target} is there already: give a folder that is not, or an empty one")
    target.parent.mkdir(parents=True, exist_ok=True)
    _clear(target.parent)
    making = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    making.mkdir(mode=0o700)
    try:
        with _locked(making / LOCK):
            yield making
            for folder in (making, *(path for path in making.rglob("*") if path.is_dir())):
                sync_folder(folder)
            os.replace(making, target)
            (target / LOCK).unlink()  # not before: who is killed between leaves no part that nobody clears
            sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: there nobody clears anything
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _clear(folder: Path) -> None:
    """Remove our own parts in a folder that nobody makes any more."""
    for part in folder.iterdir():
        with contextlib.suppress(OSError):  # somebody makes it, or it is another's, or just gone
            if _PART.fullmatch(part.name) and not part.is_symlink() and part.stat().st_uid == os.geteuid():
                descriptor = os.open(part / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if os.listdir(part) != [LOCK]:  # else it may have begun just now
                        shutil.rmtree(part)
                finally:
                    os.close(descriptor)
