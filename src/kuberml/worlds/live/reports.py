"""What a node tells its hub about itself, so that people can see what goes on: a few events, in small batches.

Telling is best effort. It never waits, never grows, and what a hub does not hear changes nothing but its page.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.core.ids import Digest, NodeId
from kuberml.core.seam import Recorder, Transport
from kuberml.exchange import wire
from kuberml.exchange.delivery.progress import Progress, Watch
from kuberml.knowledge.card import Card

EVERY_S = 0.5
PATIENCE_S = 5.0
WAITING = 256
"""Events that wait to be told; the oldest give way."""
DELIVERIES = 64
"""Deliveries whose progress is told at a time."""
BATCH = 64
LIMIT_BYTES = 64 * 1024
"""Of one report."""
WHY_CHARS = 200
REST_S = 60.0
"""After a hub has refused a report, it is left alone for so long."""

Name = Annotated[str, msgspec.Meta(max_length=64)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
What = Literal["published", "delivering", "fetched", "undelivered", "tried", "absorbed", "refused", "deployed"]
TOLD = frozenset(What.__args__)  # type: ignore[attr-defined]


class Happening(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that happened at the node that reports it. It names no node: a node speaks of itself only."""

    what: What
    card: Name = ""
    holder: Name = ""
    verdict: Name = ""
    why: Annotated[str, msgspec.Meta(max_length=WHY_CHARS)] = ""
    done_bytes: Count = 0
    size_bytes: Count = 0
    accuracy_ppm: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] | None = None


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Several, in order."""

    happenings: Annotated[tuple[Happening, ...], msgspec.Meta(max_length=BATCH)]


def read_report(body: bytes) -> Report:
    """A report from outside.

    Raises:
        RemoteError: too long, or not a report.
    """
    if len(body) > LIMIT_BYTES:
        raise RemoteError(f"a report of {len(body)} bytes is over the limit of {LIMIT_BYTES}")
    return wire.read(body, Report)


class Reporter:
    """A Recorder that passes everything on to the node's own, and tells the hub of what its page shows."""

    def __init__(
        self, recorder: Recorder, transport: Transport, hub: NodeId, *, on: bool = True, every_s: float = EVERY_S
    ) -> None:
        """Start telling with `run`.

        Args:
            recorder: the node's own.
            transport: the node's.
            hub: whom to tell.
            on: whether to tell at all.
            every_s: at most one report in this time.
        """
        self._recorder, self._transport, self._hub, self._on, self._every_s = recorder, transport, hub, on, every_s
        self._waiting: deque[Happening] = deque(maxlen=WAITING)
        self._progress: dict[str, Happening] = {}
        self.dropped = 0
        """Events that were never told."""

    def record(self, event: str, **fields: Any) -> None:
        """See `core.seam.Recorder`."""
        self._recorder.record(event, **fields)
        if self._on and event in TOLD:
            happening = _happening(event, fields)
            if event in ("fetched", "undelivered"):
                self._progress.pop(happening.card, None)
            self.dropped += len(self._waiting) == WAITING
            self._waiting.append(happening)

    def progress(self, card: Digest, holder: str, done_bytes: int, size_bytes: int) -> None:
        """A delivery has come so far. Only the newest of each card is told, and nothing goes to the ledger."""
        if not self._on or (card not in self._progress and len(self._progress) >= DELIVERIES):
            return
        self._progress.pop(card, None)
        self._progress[card] = _happening(
            "delivering", {"card": card, "holder": holder, "done_bytes": done_bytes, "size_bytes": size_bytes}
        )

    def watching(self, card: Card) -> Watch:
        """What a delivery of this card tells of each of its blobs, as progress of the whole."""
        done: dict[Digest, int] = {}

        def watch(progress: Progress) -> None:
            done[progress.blob] = progress.done_bytes
            source = max(progress.by_source, key=lambda node: progress.by_source[node], default=NodeId(""))
            self.progress(digest, source, sum(done.values()), card.size_bytes)

        digest = card.digest
        return watch

    async def run(self) -> None:
        """Tell the hub what has happened, until cancelled."""
        wait_s = self._every_s
        while self._on:
            await asyncio.sleep(wait_s)
            wait_s = await self._tell(wait_s) if self._waiting or self._progress else self._every_s

    async def flush(self) -> None:
        """Tell what waits, once; for a node that leaves."""
        if self._on and (self._waiting or self._progress):
            await self._tell(self._every_s)

    async def _tell(self, waited_s: float) -> float:
        """Send one report; how long to wait before the next."""
        batch = [self._waiting.popleft() for _ in range(min(BATCH - len(self._progress), len(self._waiting)))]
        moving, self._progress = list(self._progress.values()), {}
        try:
            body = wire.write(Report((*batch, *moving)))
            await self._transport.ask(self._hub, "report", body, timeout_s=PATIENCE_S)
        except Unreachable:
            room = WAITING - len(self._waiting)
            self.dropped += max(0, len(batch) - room)
            self._waiting.extendleft(reversed(batch[len(batch) - room :] if room < len(batch) else batch))
            return min(2 * waited_s, 10.0)
        except RemoteError:
            self.dropped += len(batch)
            return REST_S
        return self._every_s


def _happening(event: str, fields: Mapping[str, Any]) -> Happening:
    def text(name: str, most: int = 64) -> str:
        found = fields.get(name, "")
        found = found[0] if isinstance(found, list | tuple) and found else found  # of several holders the one that gave most
        return found[:most] if isinstance(found, str) else ""

    def count(name: str) -> int:
        found = fields.get(name, 0)
        return min(max(found, 0), 2**53) if isinstance(found, int) else 0

    accuracy = fields.get("accuracy_ppm")
    return Happening(
        event,  # type: ignore[arg-type]
        card=text("card"), holder=text("holder"), verdict=text("verdict"), why=text("why", WHY_CHARS),
        done_bytes=count("done_bytes"), size_bytes=count("size_bytes"),
        accuracy_ppm=min(max(accuracy, 0), 1_000_000) if isinstance(accuracy, int) else None,
    )  # fmt: skip
