"""The bytes of one read, verified piece by piece while they come: a `core.seam.Intake`."""

from __future__ import annotations

import numpy as np
from blake3 import blake3

from kuberml.core.errors import RemoteError
from kuberml.core.seam import Part
from kuberml.exchange.delivery.plan import GROUP_BYTES, Job
from kuberml.knowledge.card import BlobRef
from kuberml.knowledge.pieces import check_digest_of_piece, span

SLICE_BYTES = 1 << 20
"""Received and hashed in one go: little enough for a cache, enough that threads seldom ask each other for the interpreter."""


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
    """One read's. Pieces are written to the part as soon as they are here and are what their author signed."""

    def __init__(self, ref: BlobRef, job: Job, part: Part, buffers: Buffers) -> None:
        """`buffers`: where memory for a group comes from when it is needed; see `end`."""
        self._ref, self._job, self._part, self._buffers = ref, job, part, buffers
        self._first = self._last = job.first
        """The group that is being received: one piece, or as many small ones as fit; none while they are equal."""
        self._got = 0
        """Bytes of it that are here."""
        self._hasher: blake3 | None = None
        """Of a large piece: it is hashed while its bytes are in the cache."""
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
        if self._first == self._last:
            self._begin()
        return self._buffer[self._got : min(self._got + SLICE_BYTES, self._ref.cuts[self._last - 1] - self._start)]

    def came(self, count: int) -> bool:
        """See the seam."""
        assert self._buffer is not None
        self._job.has_begun = True
        if self._hasher is not None:
            self._hasher.update(self._buffer[self._got : self._got + count])
        self._got += count
        self.size_bytes += count
        if self._start + self._got == self._ref.cuts[self._last - 1]:
            self._judge(self._buffer[: self._got])
            self._first, self._got = self._last, 0
        return self.is_wanted

    @property
    def is_wanted(self) -> bool:
        """Whether more of the read is worth receiving."""
        return self.error is None and not self.lie and self._first < self._job.last

    def take(self, data: memoryview) -> None:
        """All of a read at once."""
        self.size_bytes, self._last = len(data), self._job.last
        self._judge(data)

    def end(self) -> None:
        """The read is over, and no thread works for it any more. A group that was cut off is judged as far as it came."""
        if self._buffer is not None:
            if self._got:
                self._judge(self._buffer[: self._got])
            self._buffers.give(self._buffer)
            self._buffer = None

    @property
    def _start(self) -> int:
        """Where the group begins in the blob."""
        return span(self._ref, self._first)[0]

    def _begin(self) -> None:
        self._last = self._first + 1
        while self._last < self._job.last and self._ref.cuts[self._last] - self._start <= GROUP_BYTES:
            self._last += 1
        self._hasher = blake3() if self._ref.cuts[self._first] - self._start > GROUP_BYTES else None

    def _judge(self, data: memoryview) -> None:
        """Verify each piece of the group that is whole in `data`, and write what is right, neighbours together."""
        base, run = self._start, self._first
        for index in range(self._first, self._last):
            start, stop = (place - base for place in span(self._ref, index))
            if stop > len(data):
                return self._write(run, index, data, base)
            hasher = blake3(data[start:stop]) if self._hasher is None else self._hasher
            try:
                check_digest_of_piece(self._ref, index, hasher.digest())
            except RemoteError as error:
                self.lie = self.lie or str(error)
                self._write(run, index, data, base)
                run = index + 1
        return self._write(run, self._last, data, base)

    def _write(self, first: int, last: int, data: memoryview, base: int) -> None:
        """Pieces first .. last - 1, which are right."""
        if first == last or self.error is not None:
            return
        start, stop = span(self._ref, first)[0], self._ref.cuts[last - 1]
        try:
            self._part.write(start, data[start - base : stop - base])
            self.good.extend(range(first, last))
        except (OSError, ValueError) as error:
            self.error = error
