"""Ranges of blobs through the router, for holders that cannot be dialled: many small Zenoh gets, several on their way at once.

One get is one chunk of at most 1 MiB. How many fly follows the bandwidth-delay product, as it is measured, and so does the size
of a chunk on slow links. Zenoh reports neither a lost answer nor a cut link, so every chunk is checked for completeness and
asked for again until nothing at all has come for `stall_s`: no answer is not proof of absence. All of it travels with the
lowest priority: requests and announcements overtake it. `served` is the other side.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import zenoh

from kuberml.core.errors import KuberError, RemoteError, Unreachable
from kuberml.worlds.live.blobs.bucket import Bucket
from kuberml.worlds.live.blobs.pace import Pace
from kuberml.worlds.live.blobs.served import REFUSED

_AGAIN_S = (0.02, 1.0)
"""Waits before a chunk without an answer is asked for again: the first and the longest."""

Pour = Callable[[bytes], Awaitable[bool]]
"""(the next bytes) -> whether more are wanted."""


async def read_windowed(
    session: zenoh.Session,
    key: str,
    start: int,
    stop: int,
    *,
    ticket: bytes | None = None,
    stall_s: float = 30.0,
    pace: Pace | None = None,
    bucket: Bucket | None = None,
    pour: Pour | None = None,
) -> bytes:
    """Bytes start..stop of the blob that is served under `key`, not verified.

    Args:
        ticket: opens the holder's gate.
        stall_s: longest time in which nothing at all comes.
        pace: what is known of the way to this holder; reads that share it learn from each other, and share its room.
        bucket: bandwidth that all reads of this process share.
        pour: takes the bytes in order while they come; then b"" is returned.

    Raises:
        RemoteError: refused, or an answer of another length.
        Unreachable: nothing came for stall_s.
    """
    parts: list[bytes] = []

    async def keep(data: bytes) -> bool:
        parts.append(data)
        return True

    reading = _Reading(session, key, start, stop, ticket, stall_s, pace or Pace(), bucket or Bucket(None), pour or keep)
    try:
        await reading.run()
        return b"".join(parts)
    finally:
        reading.end()


class _Reading:
    """One `read_windowed`; everything but `_asked` runs on the event loop."""

    def __init__(
        self,
        session: zenoh.Session,
        key: str,
        start: int,
        stop: int,
        ticket: bytes | None,
        stall_s: float,
        pace: Pace,
        bucket: Bucket,
        pour: Pour,
    ) -> None:
        self._session, self._key, self._ticket, self._bucket, self._pour = session, key, ticket, bucket, pour
        self._given = start  # everything before it was poured
        self._next, self._stop, self._stall_s, self._pace = start, stop, stall_s, pace
        self._loop = asyncio.get_running_loop()
        self._moved = asyncio.Event()
        self._parts: dict[int, bytes] = {}
        self._missing: list[tuple[float, int, int, int]] = []  # (not before, start, stop, attempt)
        self._flying: dict[int, tuple[int, float]] = {}  # start -> (size, asked at)
        self._cancel = zenoh.CancellationToken()
        self._problem: KuberError | None = None
        self._last_s = self._loop.time()

    async def run(self) -> None:
        while self._given < self._stop:
            self._launch()
            if self._given in self._parts:
                data = self._parts.pop(self._given)
                self._given += len(data)
                if wait_s := self._bucket.take(len(data)):
                    await asyncio.sleep(wait_s)
                    self._last_s = self._loop.time()  # this was our own silence, not the holder's
                if not await self._pour(data):
                    return
                continue
            await self._wait()
            if self._problem is not None:
                raise self._problem

    async def _wait(self) -> None:
        """Until something came, is to be asked for again, or nothing at all has come for too long."""
        patience_s = max(self._last_s, self._pace.came_s) + self._stall_s - self._loop.time()
        if patience_s <= 0:
            raise Unreachable(f"{self._key}: nothing came through the router for {self._stall_s:g} s")
        if self._missing:
            patience_s = min(patience_s, max(0.0, self._missing[0][0] - self._loop.time()) + 0.001)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self._moved.wait()
        self._moved.clear()

    def end(self) -> None:
        """Answers that still come find nobody."""
        for size_bytes, _ in self._flying.values():
            self._pace.landed(size_bytes)
        self._flying.clear()
        self._pace.leave(self._moved)
        self._cancel.cancel()  # type: ignore[no-untyped-call]

    def _launch(self) -> None:
        self._missing.sort()
        while self._problem is None:
            is_due = bool(self._missing) and self._missing[0][0] <= self._loop.time()
            if not self._pace.has_room() and (is_due or self._next < self._stop):
                return self._pace.wait(self._moved)
            if is_due:
                _, start, stop, attempt = self._missing.pop(0)
                if stop - start > self._pace.chunk_bytes:  # it was too much at once
                    self._missing.insert(0, (0.0, start + self._pace.chunk_bytes, stop, attempt))
                    stop = start + self._pace.chunk_bytes
            elif self._next < self._stop:
                start, attempt = self._next, 0
                self._next = stop = min(start + self._bucket.slice_bytes(self._pace.chunk_bytes), self._stop)
            else:
                return
            self._ask(start, stop, attempt)

    def _ask(self, start: int, stop: int, attempt: int) -> None:
        self._flying[start] = (stop - start, self._loop.time())
        self._pace.flew(stop - start)
        box: list[bytes | str] = []

        def replied(reply: zenoh.Reply) -> None:  # on Zenoh's thread
            if reply.ok is not None and not box:
                box.append(reply.ok.payload.to_bytes())
            elif reply.err is not None and not box:
                said = reply.err.payload.to_bytes()[:200].decode("utf-8", "replace")
                if said.startswith(REFUSED):  # Zenoh itself says "Timeout" in the same way
                    box.append(said)

        def ended() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile
                self._loop.call_soon_threadsafe(self._landed, start, stop, attempt, box)

        try:
            self._session.get(
                f"{self._key}?start={start};stop={stop}",
                zenoh.handlers.Callback(replied, ended, indirect=False),
                attachment=self._ticket,
                timeout=min(self._stall_s, self._pace.patience_s(attempt)),
                priority=zenoh.Priority.BACKGROUND,
                congestion_control=zenoh.CongestionControl.BLOCK,
                cancellation_token=self._cancel,
            )
        except zenoh.ZError as error:
            self._problem = Unreachable(f"{self._key}: {str(error).split(' at /')[0]}")

    def _landed(self, start: int, stop: int, attempt: int, box: list[bytes | str]) -> None:
        flight = self._flying.pop(start, None)
        if flight is None:
            return  # the reading has ended
        now_s = self._loop.time()
        if not box:
            self._pace.missed(now_s - flight[1])
            first_s, longest_s = _AGAIN_S
            self._missing.append((now_s + min(first_s * 2**attempt, longest_s), start, stop, attempt + 1))
        elif isinstance(box[0], str):
            self._pace.landed(stop - start)
            self._problem = RemoteError(f"{self._key[-64:][:12]}...: {box[0]}")
        elif len(box[0]) != stop - start:
            self._pace.landed(stop - start)
            self._problem = RemoteError(f"{len(box[0])} bytes came, {stop - start} were asked for")
        else:
            self._pace.landed(stop - start, after_s=now_s - flight[1], now_s=now_s)
            self._parts[start] = box[0]
            self._last_s = now_s
        self._moved.set()
