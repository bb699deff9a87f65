"""SQLite as vault, catalog and ledger use it: one file, write-ahead log, explicit transactions, errors of ours.

One `Database` is one connection that threads may share. Several processes may open one file: writers take turns.
"""

from __future__ import annotations

import errno
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kuberml.core.errors import ConfigError

BUSY_TIMEOUT_S = 30.0
"""How long a writer waits for its turn before it gives up with OSError (EBUSY)."""

AGAIN_S = 0.01
"""Before something is tried again for which SQLite itself does not wait."""

APPLICATION_ID = 0x6B756265
"""The letters "kube": tells our files from other people's SQLite files."""

_DISK_ERRORS = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_CANTOPEN: errno.EIO,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_BUSY: errno.EBUSY,
}


class Database:
    """One SQLite file, or ":memory:"."""

    def __init__(self, path: Path | str, *, sort: str, version: int, schema: str, durable: bool = True) -> None:
        """Open, and create the tables at the first time.

        Args:
            path: the file, or ":memory:".
            sort: what it holds ("vault index"); for messages.
            version: of the schema, > 0; a file with another one is refused.
            schema: statements that create an empty database, each beginning on a line of its own.
            durable: a commit survives a power cut (an fsync each: some ms). If False it survives kill -9 only.

        Raises:
            ConfigError: the file is not one of ours, of another version, or cannot be opened.
        """
        self.path, self._lock = str(path), threading.RLock()
        try:
            self._connection = sqlite3.connect(
                self.path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_S, cached_statements=256
            )
        except sqlite3.Error as error:
            raise ConfigError(f"cannot open the {sort} {self.path}: {error}") from error
        try:
            self._prepare(sort, version, schema, durable)
        except sqlite3.Error as error:
            self._connection.close()
            raise ConfigError(f"{self.path} is not a readable {sort} of kuberml: {error}") from error
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, sort: str, version: int, schema: str, durable: bool) -> None:
        connection = self._connection
        self._write_ahead()
        connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        # REPLACE deletes rows without asking delete triggers unless this is on.
        connection.execute("PRAGMA recursive_triggers=ON")
        with self.write() as writer:
            found = int(writer.execute("PRAGMA user_version").fetchone()[0])
            owner = int(writer.execute("PRAGMA application_id").fetchone()[0])
            if owner == 0 and found == 0 and not writer.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
                for statement in _statements(schema):
                    writer.execute(statement)
                writer.execute(f"PRAGMA user_version={version:d}")
                writer.execute(f"PRAGMA application_id={APPLICATION_ID:d}")
            elif owner != APPLICATION_ID:
                raise ConfigError(f"{self.path} belongs to another program; give the {sort} a path of its own")
            elif found != version:
                raise ConfigError(f"{self.path} is a {sort} of version {found}; this kuberml reads version {version}")

    def _write_ahead(self) -> None:
        """Switch the log on. SQLite refuses at once, whatever its timeout, while another process does so too."""
        until_s = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until_s:
                    raise
                time.sleep(AGAIN_S)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: all of it or nothing. Nesting is refused by SQLite.

        Raises:
            OSError: the disk is full or broken, or other writers did not let go for BUSY_TIMEOUT_S.
        """
        with self._lock, _disk_errors(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def read(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[Any]:
        """All rows of a query, as tuples.

        Raises:
            OSError: the disk is broken.
        """
        with self._lock, _disk_errors(self.path):
            return self._connection.execute(sql, parameters).fetchall()

    def close(self) -> None:
        """Let go of the file. Calling it twice is fine."""
        with self._lock:
            self._connection.close()


def _statements(script: str) -> Iterator[str]:
    # `executescript` would commit first: the schema must come with its version or not at all.
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@contextmanager
def _disk_errors(path: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        code = _DISK_ERRORS.get(error.sqlite_errorcode & 0xFF)
        if code is None:
            raise
        raise OSError(code, f"{error} ({error.sqlite_errorname})", path) from error
