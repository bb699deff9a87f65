"""The seam between the simulated and the live world: four small interfaces, nothing else.

Each has a contract test in `tests/contracts/` that every implementation passes. Paradigms never see these: they see the
`exchange.Node`, which is written over them once and runs in both worlds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from kuberml.core.ids import Digest, NodeId
from kuberml.core.jobs import JobFunction

Handler = Callable[[NodeId, bytes], Awaitable[bytes]]
"""Answers one request: (who asks, body) -> body. A KuberError it raises reaches the asker as RemoteError."""


T = TypeVar("T")


class Reading(NamedTuple):
    """How a transport is best read from."""

    window_bytes: int = 1 << 20  # asked for at once: enough to hide a round trip, little enough to lose
    parallel: int = 1  # reads of one blob at a time
    timeout_s: float = 60.0  # patience with one read, in the sense of `Transport.read`
    patience_s: float = 0.0  # without any progress, while sources that were lost may come back


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

    @property
    def reading(self) -> Reading:
        """How it is best read from."""
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
            Unreachable: not within timeout_s (simulated: in all; live: of silence).
            RemoteError: the holder does not have it, or not that range.
        """
        ...


class Intake(Protocol):
    """Takes the bytes of one read, in order, while they come; of several threads, one after the other."""

    def room(self) -> memoryview:
        """Where the next bytes are to be put: one byte or more, as many as are left at most. Ask again after `came`."""
        ...

    def came(self, count: int) -> bool:
        """So many bytes were put there. Whether more are wanted; if not, stop reading."""
        ...


@runtime_checkable
class Streaming(Protocol):
    """A transport that can hand over what it reads while it comes, so that it is verified at once and never held as a whole."""

    async def stream(self, holder: NodeId, digest: Digest, start: int, stop: int, intake: Intake, *, timeout_s: float) -> None:
        """As `Transport.read`, but into `intake`, in a thread beside the loop; returns early if that wants no more.

        When this is cancelled, the thread may give `intake` a little more.
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


class Part(Protocol):
    """A blob under way: ranges of it, in any order, that outlive the process. It belongs to who opened it, until it is closed.

    Several threads may use one.
    """

    @property
    def is_new(self) -> bool:
        """Nothing was written when it was opened."""
        ...

    def write(self, start: int, content: bytes | memoryview) -> None:
        """Put bytes at `start`; the caller has verified them. Raises OSError. ValueError: outside the blob, or closed."""
        ...

    def has(self, start: int, stop: int, blake3: bytes) -> bool:
        """Whether bytes start..stop are here and have this 32-byte BLAKE3. Raises OSError. ValueError: outside, or closed."""
        ...

    def read(self, start: int, stop: int) -> bytes:
        """Bytes start..stop as they are here. Raises OSError. ValueError: outside, or closed."""
        ...

    def whole(self) -> bytes:
        """All of it, verified.

        Raises:
            RemoteError: it has another digest; it is discarded.
            OSError. ValueError: closed.
        """
        ...

    def finish(self) -> None:
        """Keep it as a blob of the store, and close it.

        Raises:
            RemoteError: the whole has another digest; it is discarded.
            OSError: the disk is full or broken; it is closed.
        """
        ...

    def close(self) -> None:
        """Let go of it; what is there waits for whoever opens it next. Does nothing after the first time, or `finish`."""
        ...

    def discard(self) -> None:
        """Close it and forget what is there. Does nothing after `finish`."""
        ...

    async def beside(self, work: Callable[[], T]) -> T:
        """Do some work on many bytes (hash, write): beside the loop where disks and time are real."""
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

    def part(self, digest: Digest, size_bytes: int) -> Part:
        """A blob under way: what somebody left of it, if anything, else an empty one. Two that are open share nothing.

        Raises:
            OSError: the disk is full or broken.
        """
        ...

    def find_pieces(self, hashes: Collection[bytes]) -> dict[bytes, tuple[Digest, int]]:
        """Where bytes with these BLAKE3s may be read here: (blob, start), of pieces that cards here name. Not verified."""
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
