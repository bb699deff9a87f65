"""How many chunks may be on their way at once, and how large they are: learned from those that came."""

from __future__ import annotations

import asyncio
from collections import deque

CHUNK_BYTES = 1 << 20
"""The most that one answer may hold."""
_SMALLEST_BYTES = 1 << 16
_WINDOW = (4, 32)
_BRISK_S, _SLOW_S = 0.25, 1.0
"""A chunk that came within the first makes the next ones larger, one that took more than the second smaller."""


class Pace:
    """What is known of one holder. Only used on the event loop."""

    def __init__(self) -> None:
        self.chunk_bytes = 1 << 18
        self.window = _WINDOW[0]
        self.flying = 0
        self._quickest_s = float("inf")
        self._usual_s = 0.5
        self._since_s: float | None = None
        self._came_bytes = 0
        self._waiting: deque[asyncio.Event] = deque()
        self.came_s = float("-inf")
        """When something came last, of whatever read."""

    def has_room(self) -> bool:
        """May one more be asked for?"""
        return self.flying < self.window

    def wait(self, free: asyncio.Event) -> None:
        """Set `free` when there is room, those who waited longest first; see `leave`."""
        if free not in self._waiting:
            self._waiting.append(free)

    def leave(self, free: asyncio.Event) -> None:
        """Wait no more; room that was meant for it goes to the next."""
        if free in self._waiting:
            self._waiting.remove(free)
        self.pass_on()

    def pass_on(self) -> None:
        """Wake as many as there is room for."""
        for _ in range(min(len(self._waiting), max(0, self.window - self.flying))):
            self._waiting.popleft().set()

    def patience_s(self, attempt: int) -> float:
        """How long to wait for one answer: answers of a holder that is there are not this late; longer at every attempt."""
        return (1.0 + 8 * self._usual_s) * 2.0 ** min(attempt, 6)

    def flew(self, size_bytes: int) -> None:
        """One of `size_bytes` was asked for."""
        self.flying += 1

    def landed(self, size_bytes: int, after_s: float | None = None, now_s: float = 0.0) -> None:
        """It came `after_s` after it was asked for, or not (None)."""
        self.flying -= 1
        if after_s is None:
            self.window = max(_WINDOW[0], self.window // 2)
            self._since_s = None
        else:
            self._learn(size_bytes, after_s, now_s)
        self.pass_on()

    def missed(self, waited_s: float) -> None:
        """No answer came within `waited_s`. Where that was long, smaller chunks may be what the way can carry."""
        if waited_s > _SLOW_S:
            self.chunk_bytes = max(_SMALLEST_BYTES, self.chunk_bytes // 2)
        self.landed(0)

    def _learn(self, size_bytes: int, after_s: float, now_s: float) -> None:
        self.came_s = now_s
        self._usual_s += (after_s - self._usual_s) / 8
        self._quickest_s = min(self._quickest_s, after_s)
        if after_s < _BRISK_S:
            self.chunk_bytes = min(CHUNK_BYTES, 2 * self.chunk_bytes)
        elif after_s > _SLOW_S:
            self.chunk_bytes = max(_SMALLEST_BYTES, self.chunk_bytes // 2)
        self._grow(size_bytes, now_s)

    def _grow(self, size_bytes: int, now_s: float) -> None:
        """Once per round trip: room for twice what the measured rate keeps on its way, and two more."""
        if self._since_s is None:
            self._since_s, self._came_bytes = now_s, 0
            return
        self._came_bytes += size_bytes
        round_s = now_s - self._since_s
        if round_s >= self._quickest_s and round_s > 0:
            on_the_way = self._came_bytes / round_s * self._quickest_s / self.chunk_bytes
            self.window = min(_WINDOW[1], max(_WINDOW[0], round(2 * on_the_way) + 2))
            self._since_s, self._came_bytes = now_s, 0
