"""A limit of bytes per second: a token bucket that threads and coroutines share."""

from __future__ import annotations

import threading
import time

from kuberml.core.errors import ConfigError

BURST_S = 0.1
"""Seconds of the rate that may go at once after a rest: little enough that a link shared with a call does not notice."""


class Bucket:
    """Gives out bytes at a rate. Taking never waits: it answers how long the taker has to."""

    def __init__(self, limit_bytes_s: int | None) -> None:
        """`limit_bytes_s` None is no limit.

        Raises:
            ConfigError: the limit is not above 0.
        """
        if limit_bytes_s is not None and limit_bytes_s <= 0:
            raise ConfigError(f"a bandwidth limit must be above 0 bytes per second, not {limit_bytes_s}")
        self.limit_bytes_s = limit_bytes_s
        self._lock = threading.Lock()
        self._paid_until_s = 0.0

    def slice_bytes(self, most_bytes: int) -> int:
        """How much to move at once: at most `most_bytes`, and no more than a burst, so that the rate is even."""
        if self.limit_bytes_s is None:
            return most_bytes
        return max(1, min(most_bytes, int(self.limit_bytes_s * BURST_S)))

    def behind_s(self) -> float:
        """How long until what was taken is paid for; 0.0 without a limit."""
        return max(0.0, self._paid_until_s - time.monotonic())

    def take(self, size_bytes: int) -> float:
        """Seconds to wait after (or before) moving `size_bytes`; 0.0 without a limit."""
        if self.limit_bytes_s is None:
            return 0.0
        with self._lock:
            now_s = time.monotonic()
            self._paid_until_s = max(self._paid_until_s, now_s - BURST_S) + size_bytes / self.limit_bytes_s
            return max(0.0, self._paid_until_s - now_s)
