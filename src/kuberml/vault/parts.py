"""Blobs under way in a vault folder: `parts/<digest>.<size>.<session>.<number>`, each the file of one delivery of one process.

No two processes write one file: a file belongs to the session in its name while that lives (see `session`). What a dead
session left is *adopted* by an atomic rename, which one of several heirs wins; its bytes are verified by their hashes. So
a file system whose locks lie may cost a download, and never a byte.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from kuberml.core.ids import Digest
from kuberml.vault.file_part import FilePart
from kuberml.vault.session import is_alive

THREADS = 2
"""That hash and write beside the loop."""
IDLE_MAX = 32
"""Parts that nobody works on; beyond that the oldest go."""
KEPT_S = 7 * 24 * 3600
"""After which an untouched part that nobody works on is swept."""


class _Name(NamedTuple):
    digest: str
    size_bytes: str
    session: str
    number: str


class Parts:
    """One process's view of the folder."""

    def __init__(self, folder: Path, sessions: Path, session: str, keep: Callable[[Digest, Path], None]) -> None:
        """`keep`: moves a complete file to the blobs."""
        self._folder, self._sessions, self._session, self._keep = folder, sessions, session, keep
        self._open: dict[Path, FilePart] = {}
        self._lock, self._number = threading.RLock(), 0
        self._threads: ThreadPoolExecutor | None = None

    def open(self, digest: Digest, size_bytes: int) -> FilePart:
        """See `Store.part`."""
        with self._lock:
            self._number += 1
            path = self._folder / ".".join(_Name(digest, str(size_bytes), self._session, str(self._number)))
            if not self._adopt(digest, size_bytes, path):
                self._trim()
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                part = FilePart(path, descriptor, digest, size_bytes, keep=lambda file: self._keep(digest, file),
                                let_go=self._let_go, threads=self._executor)  # fmt: skip
            except BaseException:
                os.close(descriptor)
                raise
            self._open[path] = part
            return part

    def sweep(self, is_here: Callable[[Digest], bool]) -> int:
        """Remove what nobody works on and nobody needs: old, or a blob by now. Returns bytes freed."""
        freed_bytes = 0
        with self._lock:
            for path in self._idle():
                with contextlib.suppress(FileNotFoundError):
                    state = path.stat()
                    if is_here(Digest(_Name(*path.name.split(".")).digest)) or time.time() - state.st_mtime > KEPT_S:
                        path.unlink()
                        freed_bytes += state.st_blocks * 512
        return freed_bytes

    def close(self) -> None:
        """Let go of everything."""
        for part in list(self._open.values()):
            part.close()
        if self._threads is not None:
            self._threads.shutdown()

    def _adopt(self, digest: Digest, size_bytes: int, path: Path) -> bool:
        """Make the fullest idle part of a blob this session's own, under `path`."""
        found = list(self._idle(f"{digest}.{size_bytes}."))
        for idle in sorted(found, key=_used_bytes, reverse=True):
            with contextlib.suppress(FileNotFoundError):  # another heir was quicker
                os.rename(idle, path)
                return True
        return False

    def _idle(self, prefix: str = "") -> Iterator[Path]:
        """Parts that are open nowhere."""
        alive: dict[str, bool] = {self._session: False}
        for entry in sorted(os.listdir(self._folder)):
            fields = entry.split(".")
            if not entry.startswith(prefix) or len(fields) != len(_Name._fields):
                continue
            session, path = _Name(*fields).session, self._folder / entry
            if session not in alive:
                alive[session] = is_alive(self._sessions, session)
            if not alive[session] and path not in self._open:
                yield path

    def _let_go(self, path: Path) -> None:
        self._open.pop(path, None)

    def _trim(self) -> None:
        for path in sorted(self._idle(), key=_changed_ns, reverse=True)[IDLE_MAX - 1 :]:
            path.unlink(missing_ok=True)

    def _executor(self) -> Executor:
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="vault")
            return self._threads


def _used_bytes(path: Path) -> int:
    try:
        return path.stat().st_blocks
    except FileNotFoundError:
        return 0


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
