"""Results of jobs remembered by the digest of their inputs: identical jobs run once, and a resumed run replays fast.

A job is a pure function of its inputs, so BLAKE3 of (job name, inputs) names its result. In memory the least recently used
are forgotten; a `JobCache` keeps all of them in one SQLite file for `run --resume`.
"""

from __future__ import annotations

import sqlite3
import time
from collections import OrderedDict
from pathlib import Path

from kuberml.core.errors import ConfigError
from kuberml.core.ids import Digest, digest_of
from kuberml.worlds.simulated.workers import Ticket, Workers, succeeded

MEMORY_BYTES = 64 * 1024 * 1024
LINGER_S = 0.25
"""A transaction takes as long as a small job: several go into one."""
PAGE_BYTES = 1 << 16
"""SQLite's largest: a state of 7 MB is written in a third of the time that its usual pages take."""


class JobCache:
    """Replies of jobs in one SQLite file. A killed process loses those of its last LINGER_S seconds, and does them again."""

    def __init__(self, path: Path | str) -> None:
        """Raises ConfigError: not a file that we can keep results in."""
        try:
            self._database = sqlite3.connect(path, isolation_level=None)
            self._database.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # of a new file
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")  # a power cut loses the last few transactions
            self._database.execute("CREATE TABLE IF NOT EXISTS job (task BLOB PRIMARY KEY, reply BLOB NOT NULL)")
            self._written: set[bytes] = {task for (task,) in self._database.execute("SELECT task FROM job")}
        except sqlite3.Error as error:
            raise ConfigError(f"job cache {path}: {error}; give a new file or one of an earlier run") from error
        self._fresh: dict[bytes, bytes] = {}
        self._written_s = 0.0

    def get(self, task: Digest) -> bytes | None:
        """The reply to a task, or None."""
        name = bytes.fromhex(task)
        if name not in self._written:
            return self._fresh.get(name)
        reply: bytes = self._database.execute("SELECT reply FROM job WHERE task = ?", (name,)).fetchone()[0]
        return reply

    def put(self, task: Digest, reply: bytes) -> None:
        """Keep a reply."""
        self._fresh[bytes.fromhex(task)] = reply
        if time.monotonic() > self._written_s + LINGER_S:
            self._write()

    def __len__(self) -> int:
        return len(self._written | self._fresh.keys())

    def close(self) -> None:
        """Write what is left, and release the file."""
        self._write()
        self._database.close()

    def _write(self) -> None:
        self._database.execute("BEGIN")
        self._database.executemany("INSERT OR REPLACE INTO job VALUES (?, ?)", self._fresh.items())
        self._database.execute("COMMIT")
        self._written |= self._fresh.keys()
        self._fresh.clear()
        self._written_s = time.monotonic()


class _Shared:
    """One task that several may wait for."""

    __slots__ = ("done", "inner", "users")

    def __init__(self, inner: Ticket) -> None:
        self.inner = inner
        self.done = False
        self.users = 0


class Remembering:
    """Workers that do no task twice. Errors are not remembered."""

    def __init__(self, workers: Workers, cache: JobCache | None = None, *, memory_bytes: int = MEMORY_BYTES) -> None:
        self.executed, self.count, self.variant = 0, workers.count, workers.variant
        self._workers, self._cache = workers, cache
        self._replies: OrderedDict[Digest, bytes] = OrderedDict()
        self._room_bytes = memory_bytes
        self._pending: dict[Digest, _Shared] = {}
        self._digests: dict[Ticket, Digest] = {}

    def submit(self, task: bytes) -> Ticket:
        """See Workers."""
        digest = digest_of(self.variant + task)
        ticket = Ticket(b"")
        ticket.reply = self._recall(digest)
        if ticket.reply is None:
            shared = self._pending.get(digest)
            if shared is None:
                shared = self._pending[digest] = _Shared(self._workers.submit(task))
            shared.users += 1
            self._digests[ticket] = digest
        return ticket

    def result(self, ticket: Ticket) -> bytes:
        """See Workers."""
        if ticket.reply is None:
            digest = self._digests[ticket]
            shared = self._pending[digest]
            ticket.reply = self._workers.result(shared.inner)
            if not shared.done:
                shared.done = True
                self.executed += 1
                self._learn(digest, ticket.reply)
            self._leave(ticket)
        return ticket.reply

    def drop(self, ticket: Ticket) -> None:
        """See Workers."""
        if ticket in self._digests:
            self._leave(ticket)

    def close(self) -> None:
        """See Workers."""
        self._workers.close()

    def _leave(self, ticket: Ticket) -> None:
        digest = self._digests.pop(ticket)
        shared = self._pending[digest]
        shared.users -= 1
        if shared.users == 0:
            del self._pending[digest]
            self._workers.drop(shared.inner)

    def _recall(self, digest: Digest) -> bytes | None:
        if digest in self._replies:
            self._replies.move_to_end(digest)
            return self._replies[digest]
        return None if self._cache is None else self._cache.get(digest)

    def _learn(self, digest: Digest, reply: bytes) -> None:
        if not succeeded(reply):
            return
        if self._cache is not None:
            self._cache.put(digest, reply)
        self._replies[digest] = reply
        self._room_bytes -= len(reply)
        while self._room_bytes < 0:
            self._room_bytes += len(self._replies.popitem(last=False)[1])
