"""The system's clock as the seam's Clock."""

from __future__ import annotations

import asyncio
import time

from kuberml.core.units import NS, to_ns

STEP_NS = 60 * NS
"""A step back by more is no correction of a clock that runs a little fast, but of one that was wrong."""


class SystemClock:
    """Nanoseconds since 1970; when the system's clock is set back a little, this one stands still until it is reached again.

    A step back by more than STEP_NS is followed. Who stood still then would go on dating what it learns in the future, and
    think the terms of others' knowledge expired, until somebody restarts it.
    """

    def __init__(self) -> None:
        self._last_ns = 0

    def now_ns(self) -> int:
        """See the seam."""
        now_ns = time.time_ns()
        if now_ns > self._last_ns or self._last_ns - now_ns > STEP_NS:
            self._last_ns = now_ns
        return self._last_ns

    async def sleep(self, seconds: float) -> None:
        """See the seam. Raises ConfigError: negative, NaN or endless."""
        until_ns = time.monotonic_ns() + to_ns(seconds)
        # A timer may fire up to its resolution too early.
        while (left_ns := until_ns - time.monotonic_ns()) > 0:  # noqa: ASYNC110 - it waits for time, not for an event
            await asyncio.sleep(left_ns / NS)
