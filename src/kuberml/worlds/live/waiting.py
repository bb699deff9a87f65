"""Who waits at a door for what is not there yet: bounded, and whoever waits most gives way.

A request for the newest of a slot may wait for a version that never comes, for as long as whoever asks likes. So that nobody
fills a door with them, the place for one more is taken from the key that has most of them here: of its own, the oldest goes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable

from kuberml.core.errors import Unreachable

WAITS = frozenset({"latest"})
"""Requests whose answer may have to come into being first."""
MOST = 384
"""Of them at a time: below `answering.MAX_UNREAD`, so that other requests still get in."""


class Waiting:
    """One door's."""

    def __init__(self, most: int = MOST) -> None:
        """`most`: that wait at a time, at least 1."""
        self._most = most
        self._here: dict[asyncio.Timeout, str] = {}  # oldest first

    async def of(self, key: str, answer: Awaitable[bytes]) -> bytes:
        """The answer to a request of a key.

        Raises:
            Unreachable: it has had to give way.
        """
        if len(self._here) >= self._most:
            self._give_way()
        try:
            async with asyncio.timeout(None) as stay:
                self._here[stay] = key
                return await answer
        except TimeoutError:
            if not stay.expired():
                raise
            raise Unreachable(f"{self._most} requests wait here for something new, and yours gave way: ask again") from None
        finally:
            self._here.pop(stay, None)

    def _give_way(self) -> None:
        counts = Counter(self._here.values())
        most = max(counts.values())
        gone = next(stay for stay, key in self._here.items() if counts[key] == most)
        del self._here[gone]
        gone.reschedule(asyncio.get_running_loop().time())
