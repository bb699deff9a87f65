"""The system's clock as the seam's Clock."""

from __future__ import annotations

import asyncio
import time

from kuberml.core.units import NS, to_ns


class SystemClock:
    """Nanoseconds since 1970; when the system's clock is set back, this one stands still until it is reached again."""

    def __init__(self) -> None:
        self._last_ns = 0

    def now_ns(self) -> int:
        """See the seam."""
        self._last_ns = max(self._last_ns, time.time_ns())
        return self._last_ns

    async def sleep(self, seconds: float) -> None:
        """See the seam. Raises ConfigError: negative, NaN or endless."""
        until_ns = time.monotonic_ns() + to_ns(seconds)
        # A timer may fire up to its resolution too early.
        while (left_ns := until_ns - time.monotonic_ns()) > 0:  # noqa: ASYNC110 - it waits for time, not for an event
            await asyncio.sleep(left_ns / NS)
