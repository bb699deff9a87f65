"""How much one key, and all keys together, may ask of this process: requests and bytes per second, requests open, sizes.

Token buckets on a monotonic clock that the caller gives: pure, so tests move time. A bucket starts full (its burst) and fills
at its rate. Keys cost nothing to make, so the bounds on all keys together are what protects the process; those per key are
what keeps one honest peer from being drowned by another, and say whom to blame.
"""

from __future__ import annotations

import resource
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from kuberml.core.errors import ConfigError, RemoteError, Unreachable

KEYS_MAX = 4096
"""Keys whose buckets are remembered; beyond, those that have been quiet longest are forgotten."""


@dataclass(frozen=True)
class Bounds:
    """Of one key, or of all."""

    requests_per_s: float
    burst: float
    open: int
    bytes_s: float
    burst_bytes: float


PER_KEY = Bounds(requests_per_s=1_000, burst=5_000, open=64, bytes_s=32 << 20, burst_bytes=64 << 20)
IN_ALL = Bounds(requests_per_s=5_000, burst=10_000, open=1_024, bytes_s=256 << 20, burst_bytes=512 << 20)
SIZE_MAX_BYTES = 5 << 20
"""Of one request: what an envelope may hold."""


def raise_open_files() -> int:
    """Let this process have as many files and sockets open as the system allows it; how many that is.

    The usual default of 1,024 would end a hub at a thousand peers.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


class Bucket:
    """Tokens that drip in at a rate, up to a burst."""

    def __init__(self, per_s: float, burst: float, now_s: float) -> None:
        """Full at `now_s`. `per_s` in tokens per second."""
        self._per_s, self._burst, self._tokens, self._at_s = per_s, burst, burst, now_s

    def lacks_s(self, tokens: float, now_s: float) -> float:
        """Seconds until so many tokens are there; 0 if they are. At most the burst is ever there."""
        self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        return max(0.0, (tokens - self._tokens) / self._per_s)

    def take(self, tokens: float) -> None:
        """Spend tokens that are there."""
        self._tokens -= tokens


class Account:
    """What one key, or all, have open and may still spend."""

    def __init__(self, bounds: Bounds, now_s: float) -> None:
        """Nothing open, and both buckets full at `now_s`."""
        self.bounds, self.open = bounds, 0
        self._requests = Bucket(bounds.requests_per_s, bounds.burst, now_s)
        self._bytes = Bucket(bounds.bytes_s, bounds.burst_bytes, now_s)

    def objection(self, size_bytes: int, now_s: float) -> str:
        """Why another request of that size is too much now; "" if it is not."""
        if self.open >= self.bounds.open:
            return f"{self.open} requests are open, and at most {self.bounds.open} may be"
        for bucket, amount, what in (
            (self._requests, 1, f"requests come faster than {self.bounds.requests_per_s:g} per second"),
            (self._bytes, size_bytes, f"bytes come faster than {self.bounds.bytes_s:g} per second"),
        ):
            if wait_s := bucket.lacks_s(amount, now_s):
                return f"{what}; try again in {wait_s:.2g} s"
        return ""

    def admit(self, size_bytes: int) -> None:
        """Count one in."""
        self.open += 1
        self._requests.take(1)
        self._bytes.take(size_bytes)


class Limits:
    """The accounts of a process."""

    def __init__(
        self,
        per_key: Bounds = PER_KEY,
        in_all: Bounds = IN_ALL,
        *,
        size_max_bytes: int = SIZE_MAX_BYTES,
        keys_max: int = KEYS_MAX,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ConfigError: a bound that lets nothing through."""
        for bounds in (per_key, in_all):
            if min(bounds.requests_per_s, bounds.burst, bounds.open, bounds.bytes_s, bounds.burst_bytes) < 1:
                raise ConfigError(f"every bound is at least 1, not {bounds}")
        self._per_key, self._size_max_bytes, self._keys_max, self._now_s = per_key, size_max_bytes, keys_max, now_s
        self._all = Account(in_all, now_s())
        self._keys: OrderedDict[str, Account] = OrderedDict()

    @property
    def open(self) -> int:
        """Requests of all keys that are open now."""
        return self._all.open

    def admit(self, key: str, size_bytes: int) -> None:
        """Let a request in; `release` it when it is answered. What is refused costs its key nothing.

        Raises:
            RemoteError: it is too large, now and later.
            Unreachable: it is too much now; the message says when to try again.
        """
        limit_bytes = min(self._size_max_bytes, int(self._per_key.burst_bytes))
        if size_bytes > limit_bytes:
            raise RemoteError(f"a request of {size_bytes} bytes; at most {limit_bytes} are read")
        now_s = self._now_s()
        account = self._account(key, now_s)
        for objection, whose in (
            (account.objection(size_bytes, now_s), "your"),
            (self._all.objection(size_bytes, now_s), "all"),
        ):
            if objection:
                raise Unreachable(f"too much at once: of {whose} requests, {objection}")
        account.admit(size_bytes)
        self._all.admit(size_bytes)

    def release(self, key: str) -> None:
        """A request that was let in has been answered."""
        self._all.open -= 1
        self._keys[key].open -= 1

    def _account(self, key: str, now_s: float) -> Account:
        if key not in self._keys:
            self._forget()
            self._keys[key] = Account(self._per_key, now_s)
        self._keys.move_to_end(key)
        return self._keys[key]

    def _forget(self) -> None:
        """Make room: the quietest go, but none that has something open."""
        if len(self._keys) < self._keys_max:
            return
        idle = next((key for key, account in self._keys.items() if not account.open), None)
        if idle is None:
            raise Unreachable(f"too much at once: {len(self._keys)} keys have requests open")
        del self._keys[idle]
