"""The seam between the simulated and the live world: four small interfaces, nothing else.

Each has a contract test in `tests/contracts/` that every implementation passes. Paradigms never see these: they see the
`exchange.Node`, which is written over them once and runs in both worlds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, Protocol

from kuberml.core.ids import Digest, NodeId
from kuberml.core.jobs import JobFunction

Handler = Callable[[NodeId, bytes], Awaitable[bytes]]
"""Answers one request: (who asks, body) -> body. A KuberError it raises reaches the asker as RemoteError."""


class Clock(Protocol):
    """What time it is here."""

    def now_ns(self) -> int:
        """Nanoseconds since the world began (simulated) or since 1970 (live). Never goes back, but where a clock was wrong."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait. In virtual time, equal deadlines fire in the order in which they were set."""
        ...


class Transport(Protocol):
    """One node's door to the others."""

    @property
    def node(self) -> NodeId:
        """Whose door this is."""
        ...

    async def ask(self, to: NodeId, name: str, body: bytes, *, timeout_s: float) -> bytes:
        """Send a request to the handler that `to` serves under `name`, and wait for its answer.

        Raises:
            Unreachable: no answer within timeout_s, `to` is gone, or the network is cut.
            RemoteError: `to` refused (its handler raised), or serves no such name.
        """
        ...

    def serve(self, name: str, handler: Handler) -> None:
        """Answer requests called `name`; a second call replaces the handler. Requests beyond a bound are refused."""
        ...

    async def announce(self, topic: str, body: bytes) -> None:
        """Send to everybody who subscribes to `topic` now. Best effort: no receipt."""
        ...

    def subscribe(self, topic: str, *, limit: int = 1024) -> AsyncIterator[tuple[NodeId, bytes]]:
        """What others announce under `topic` from now on. Beyond `limit` waiting items the oldest are dropped."""
        ...

    def alive(self, role: str | None = None) -> tuple[NodeId, ...]:
        """Nodes that are present as far as this node knows, sorted, without itself; of one role or of all."""
        ...

    async def read(self, holder: NodeId, digest: Digest, start: int, stop: int, *, timeout_s: float) -> bytes:
        """Bytes start..stop of a blob that `holder` has. They are *not* verified here: delivery does.

        Raises:
            Unreachable: not within timeout_s.
            RemoteError: the holder does not have it, or not that range.
        """
        ...


class Compute(Protocol):
    """Where jobs run."""

    async def run(self, function: JobFunction, *values: Any) -> Any:
        """Run a job and return its value. Inputs are frozen now; live it runs here, simulated it takes the device's time.

        Raises:
            Whatever the job raises; InternalError if its worker died twice.
        """
        ...


class Store(Protocol):
    """One node's blobs, cards and memory. Blobs and cards are named by their digest; writes are all or nothing."""

    def put(self, blob: bytes) -> Digest:
        """Keep a blob; keeping it twice is keeping it once. Raises OSError when the disk is full or broken."""
        ...

    def get(self, digest: Digest) -> bytes:
        """The blob, verified while read.

        Raises:
            KeyError: not here.
            InternalError: the disk gave other bytes; the blob is dropped.
        """
        ...

    def read(self, digest: Digest, start: int, stop: int) -> bytes:
        """Bytes start..stop of a blob, not verified. Raises KeyError: not here. ValueError: outside the blob."""
        ...

    def size_bytes(self, digest: Digest) -> int | None:
        """Size of a blob, or None if it is not here."""
        ...

    def delete(self, digest: Digest) -> None:
        """Forget a blob; nothing happens if it is not here."""
        ...

    def put_card(self, digest: Digest, card: bytes) -> None:
        """Keep an encoded signed card under its card's digest (not the digest of these bytes: they carry the signature)."""
        ...

    def card(self, digest: Digest) -> bytes:
        """The encoded signed card. Raises KeyError: not here."""
        ...

    def cards(self) -> Iterator[Digest]:
        """Digests of all cards here, sorted."""
        ...

    def delete_card(self, digest: Digest) -> None:
        """Forget a card; nothing happens if it is not here."""
        ...

    def memory(self) -> dict[str, bytes]:
        """All remembered entries."""
        ...

    def remember(self, entries: Mapping[str, bytes | None]) -> None:
        """Write several entries in one transaction; None forgets one."""
        ...


class Recorder(Protocol):
    """Takes down what happens. Cheap: it never waits."""

    def record(self, event: str, **fields: Any) -> None:
        """One event with plain fields (text, numbers, digests, lists of them). Time and node are added by the world."""
        ...
