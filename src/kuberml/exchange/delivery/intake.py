"""The bytes of one read, verified piece by piece while they come: a `core.seam.Intake`."""

from __future__ import annotations

import numpy as np
from blake3 import blake3

from kuberml.core.errors import RemoteError
from kuberml.core.seam import Part
from kuberml.exchange.delivery.plan import Job
from kuberml.knowledge.card import BlobRef
from kuberml.knowledge.pieces import check_digest_of_piece, span

SLICE_BYTES = 1 << 20
"""Received and hashed in one go: little enough for a cache, enough that threads seldom ask each other for the interpreter."""


GROUP_BYTES = 256 << 10
"""Small pieces are received together, up to so much: each is judged by itself, but not each is worth a turn of its own."""


class Buffers:
    """Pieces' worth of memory that reads use one after the other: fresh memory costs more than to receive into it."""

    def __init__(self) -> None:
        self._free: list[memoryview] = []

    def take(self, size_bytes: int) -> memoryview:
        """At least so much."""
        while self._free:
            buffer = self._free.pop()
            if len(buffer) >= size_bytes:
                return buffer
        return np.empty(size_bytes, np.uint8).data

    def give(self, buffer: memoryview) -> None:
        """Nobody uses it any more: no thread that was cancelled, either."""
        self._free.append(buffer)


class Pieces:
    """One read's. A piece is written to the part as soon as all of it is here and is what its author signed."""

    def __init__(self, ref: BlobRef, job: Job, part: Part, buffers: Buffers) -> None:
        """`buffers`: where memory for one piece comes from when it is needed; see `end`."""
        self._ref, self._job, self._part, self._buffers = ref, job, part, buffers
        self._index, self._hasher = job.first, blake3()
        self._start = self._size_bytes = 0
        """Where the group of pieces that is being received begins in the blob, and its size; 0: none is."""
        self._got = self._hashed = 0
        """Bytes of the group that are here, and that are hashed."""
        self._buffer: memoryview | None = None
        self.good: list[int] = []
        """Verified and written."""
        self.size_bytes = 0
        """What came, right or wrong."""
        self.lie = ""
        """What was wrong first."""
        self.error: Exception | None = None
        """The disk is full or broken, or the part was closed meanwhile."""

    def room(self) -> memoryview:
        """See the seam."""
        if self._buffer is None:
            largest = max(stop - start for start, stop in (span(self._ref, i) for i in range(self._job.first, self._job.last)))
            self._buffer = self._buffers.take(max(largest, min(GROUP_BYTES, self._job.stop - self._job.start)))
        if not self._size_bytes:
            self._begin()
        return self._buffer[self._got : min(self._got + SLICE_BYTES, self._size_bytes)]

    def came(self, count: int) -> bool:
        """See the seam."""
        assert self._buffer is not None
        self._job.has_begun = True
        self._got += count
        self.size_bytes += count
        while self._hashed < self._got and self.is_wanted:
            start, stop = (place - self._start for place in span(self._ref, self._index))
            here = min(self._got, stop)
            self._hasher.update(self._buffer[self._hashed : here])
            self._hashed = here
            if here == stop:
                self._judge(self._index, self._hasher.digest(), self._buffer[start:stop])
                self._index, self._hasher = self._index + 1, blake3()
        if self._hashed == self._size_bytes:
            self._got = self._hashed = self._size_bytes = 0
        return self.is_wanted

    @property
    def is_wanted(self) -> bool:
        """Whether more of the read is worth receiving."""
        return self.error is None and not self.lie and self._index < self._job.last

    def _begin(self) -> None:
        """The next group: one piece, or as many small ones as fit."""
        self._start, stop = span(self._ref, self._index)
        for index in range(self._index + 1, self._job.last):
            if span(self._ref, index)[1] - self._start > GROUP_BYTES:
                break
            stop = span(self._ref, index)[1]
        self._size_bytes = stop - self._start

    def take(self, data: memoryview) -> None:
        """All of a read at once. Pieces behind a wrong one are looked at, too: they are here anyway."""
        self.size_bytes = len(data)
        for index in range(self._job.first, self._job.last):
            start, stop = span(self._ref, index)
            piece = data[start - self._job.start : stop - self._job.start]
            self._judge(index, blake3(piece).digest(), piece)

    def end(self) -> None:
        """The read is over, and no thread works for it any more."""
        if self._buffer is not None:
            self._buffers.give(self._buffer)
            self._buffer = None

    def _judge(self, index: int, digest: bytes, piece: memoryview) -> None:
        try:
            check_digest_of_piece(self._ref, index, digest)
            self._part.write(span(self._ref, index)[0], piece)
            self.good.append(index)
        except RemoteError as error:
            self.lie = self.lie or str(error)
        except (OSError, ValueError) as error:
            self.error = self.error or error
