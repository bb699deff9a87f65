"""A disk that can be full: a small tmpfs where mounting is allowed, else a limit on the size of files of the process."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from functools import cache
from pathlib import Path
from typing import Protocol

from tests.faults.processes import Actor

SIZE_MIB = 192


class Disk(Protocol):
    """Where an actor's vault lies."""

    def fill(self, actor: Actor) -> None:
        """From now on nothing can be written."""
        ...

    def free(self, actor: Actor) -> None:
        """There is room again."""
        ...


class Limited:
    """No mount: every write to a file fails with EFBIG while it is full. A process that is started meanwhile has room."""

    def fill(self, actor: Actor) -> None:
        _limit(actor, 0)

    def free(self, actor: Actor) -> None:
        _limit(actor, resource.RLIM_INFINITY)


class Small:
    """A file system of its own, filled to the last byte: ENOSPC."""

    def __init__(self, folder: Path) -> None:
        self._filler = folder / "filler"

    def fill(self, actor: Actor) -> None:
        with contextlib.suppress(OSError), self._filler.open("ab") as file:
            while True:
                file.write(bytes(4096))
                file.flush()

    def free(self, actor: Actor) -> None:
        self._filler.unlink(missing_ok=True)


def disk(folder: Path) -> Disk:
    """A disk under `folder`, which is made. Let go of it with `unmount`."""
    folder.mkdir(parents=True)
    if can_mount():
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", str(folder)], check=True)
        return Small(folder)
    return Limited()


def unmount(folder: Path) -> None:
    """End a disk."""
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@cache
def can_mount() -> bool:
    """Whether this process may mount: it is root, and not in a container that forbids it."""
    if os.geteuid() != 0:
        return False
    trying = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(trying, check=False, capture_output=True).returncode == 0


def _limit(actor: Actor, soft_bytes: int) -> None:
    if actor.pid is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            resource.prlimit(actor.pid, resource.RLIMIT_FSIZE, (soft_bytes, resource.RLIM_INFINITY))
