"""Capture: append a tuple to a list; whole batches go to the store.

A thread that took over each record would cost the caller more than it saves (both need the interpreter's lock), so records
are handed over by the thousand.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from kuberml.ledger.store import Record

BATCH = 1024
"""Records after which a batch is handed over."""

LIMIT = 128 * BATCH
"""Records waiting in memory at most: beyond it, `append` writes them itself, because losing them would be worse."""

_CHUNK = 8 * BATCH  # records in one transaction
_LINGER_S = 0.25  # how long the writer lets a part of a batch wait


class Capture:
    """Collects records and writes them in batches: in the caller, or with one writer thread in the background."""

    def __init__(self, write: Callable[[Sequence[Record]], None], *, background: bool) -> None:
        """`write` gets batches in order, one at a time. A simulated world has no background: its threads are none."""
        self._write, self._pending = write, list[Record]()
        self._turn, self._full, self._closed = threading.Lock(), threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True) if background else None
        if self._thread is not None:
            self._thread.start()

    def append(self, record: Record) -> None:
        """Take down one record. Does not wait, unless LIMIT records do (the disk is slow or full).

        Raises:
            OSError: LIMIT records wait and the disk refuses them; they are kept.
        """
        pending = self._pending
        pending.append(record)
        if len(pending) >= BATCH:
            if self._thread is None or len(pending) >= LIMIT:
                self.flush()
            elif not self._full.is_set():
                self._full.set()

    def flush(self) -> None:
        """Write all that was appended before this call.

        Raises:
            OSError: the disk refuses; what is not written waits for the next flush.
        """
        pending = self._pending
        with self._turn:
            left = len(pending)
            while left > 0:
                # Others only append, and only we, holding the turn, take away: no record is lost or written twice.
                chunk = pending[: min(left, _CHUNK)]
                self._write(chunk)
                del pending[: len(chunk)]
                left -= len(chunk)

    def close(self) -> None:
        """Write the rest and end the writer thread. Calling it twice is fine. Raises OSError: the disk refuses."""
        self._closed = True
        self._full.set()
        if self._thread is not None:
            self._thread.join()
        self.flush()

    def _run(self) -> None:
        while not self._closed:
            self._full.wait(_LINGER_S)
            self._full.clear()
            try:
                self.flush()
            except OSError:  # kept in memory; whoever flushes or closes, or comes upon LIMIT, is told
                self._full.wait(_LINGER_S)
