"""Intakes of reads: all in memory, after what a server sends before the range, counted; see `core.seam.Intake`."""

from __future__ import annotations

from typing import Any

import numpy as np

from kuberml.core.seam import Intake

SLICE_BYTES = 1 << 20


class Whole:
    """A range in memory."""

    def __init__(self, size_bytes: int) -> None:
        self.view = np.empty(size_bytes, np.uint8).data  # not cleared first, and of huge pages
        self.got = 0

    def room(self) -> memoryview:
        """See the seam."""
        return self.view[self.got : self.got + SLICE_BYTES]

    def came(self, count: int) -> bool:
        """See the seam."""
        self.got += count
        return self.got < len(self.view)


class After:
    """Passes on what comes after so many bytes."""

    def __init__(self, skip_bytes: int, inner: Intake) -> None:
        self._left, self._inner = skip_bytes, inner
        self._waste = memoryview(bytearray(min(skip_bytes, SLICE_BYTES)))

    def room(self) -> memoryview:
        """See the seam."""
        return self._waste[: self._left] if self._left else self._inner.room()

    def came(self, count: int) -> bool:
        """See the seam."""
        if self._left:
            self._left -= count
            return True
        return self._inner.came(count)


class Counted:
    """Passes on, and counts."""

    def __init__(self, inner: Intake) -> None:
        self._inner = inner
        self.size_bytes = 0

    def room(self) -> memoryview:
        """See the seam."""
        return self._inner.room()

    def came(self, count: int) -> bool:
        """See the seam."""
        self.size_bytes += count
        return self._inner.came(count)


def pour(data: Any, intake: Intake) -> bool:
    """Put bytes that are here already into an intake, until it wants no more. Whether it wants more."""
    rest, more = memoryview(data), True
    while rest and more:
        room = intake.room()
        count = min(len(room), len(rest))
        room[:count] = rest[:count]
        more, rest = intake.came(count), rest[count:]
    return more
