"""One request for one range, in a thread: sent, answered, checked, received."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from kuberml.core.errors import KuberError, Unreachable
from kuberml.core.seam import Intake
from kuberml.worlds.live.blobs.answer import HEAD_BYTES, Answer, answer_of, refusal
from kuberml.worlds.live.blobs.bucket import Bucket
from kuberml.worlds.live.blobs.connection import Connection, Place, Pool
from kuberml.worlds.live.blobs.intakes import After, Whole, pour
from kuberml.worlds.live.blobs.turns import Turns

T = TypeVar("T")
HANDED_BYTES = 128 << 10
"""Handed on at once at least: TLS gives 16 KiB at a time, too little to be worth a hash and a change of threads."""
MOMENT_S, TURN_S = 0.002, 0.05
"""A turn is given up for a wait for the peer that is longer than the first, and after the second if others wait for one."""
REFUSAL_BYTES = 4096
DRIP_BYTES = 4096
"""Less than this within the stall time is silence too: a byte now and then keeps nobody waiting for ever."""


class _WentStale(Exception):
    """A kept connection had been closed by its server meanwhile."""


class Call:
    """Use once: `run` in a thread, `cancel` from anywhere."""

    def __init__(
        self,
        turns: Turns,
        pool: Pool,
        bucket: Bucket,
        place: Place,
        request: bytes,
        intake: Intake,
        *,
        start: int,
        stop: int,
        stall_s: float,
        whole_bytes: int,
    ) -> None:
        """Nothing is sent yet.

        Args:
            intake: where the range goes.
            turns: receiving is done in turn, see there.
            whole_bytes: if the server sends the whole file instead of the range, up to this size is acceptable.
        """
        self._turns = turns
        self._pool, self._bucket, self._place, self._request, self._intake = pool, bucket, place, request, intake
        self._start, self._stop, self._stall_s, self._whole_bytes = start, stop, stall_s, whole_bytes
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._cancelled = False

    def cancel(self) -> None:
        """Nobody wants the answer any more: the thread comes back at once."""
        with self._lock:
            self._cancelled = True
            if self._connection is not None:
                self._connection.interrupt()

    def run(self) -> None:
        """Receive the bytes, or as many as the intake wants.

        Raises:
            RemoteError: a refusal, or an answer to another question.
            Unreachable: nobody there, silent, cut off, busy, or cancelled.
        """
        kept = self._pool.take(self._place)
        if kept is not None:
            try:
                with self._turns:
                    self._over(kept)
                return
            except _WentStale:
                pass
        fresh = Connection(self._place, self._stall_s)
        try:
            with self._turns:
                self._over(fresh)
        except _WentStale as error:
            raise Unreachable(f"{self._where}: {error}") from None

    @property
    def _where(self) -> str:
        return f"{self._place[0]}:{self._place[1]}"

    def _over(self, connection: Connection) -> None:
        with self._lock:
            self._connection = connection
            cancelled = self._cancelled
        keep = False
        try:
            if cancelled:
                raise Unreachable("nobody waits for this any more")
            answer, early = self._ask(connection)
            refused, keep = self._body(connection, answer, early)
            if refused is not None:
                raise refused
        except TimeoutError:
            raise Unreachable(f"{self._where}: nothing came for {self._stall_s:g} s") from None
        except OSError as error:
            raise Unreachable(f"{self._where}: cut off: {error}") from error
        finally:
            with self._lock:
                self._connection = None
                keep = keep and not self._cancelled
            if keep:
                self._pool.give(connection)
            else:
                connection.close()

    def _ask(self, connection: Connection) -> tuple[Answer, bytes]:
        """Send the request and read the head of the answer, with what came of the body."""
        wire, got, by_s = connection.socket, b"", time.monotonic() + self._stall_s
        wire.settimeout(self._stall_s)
        try:
            wire.sendall(self._request)
            wire.settimeout(MOMENT_S)
            got = self._patiently(wire, lambda: wire.recv(HEAD_BYTES))
        except TimeoutError:
            raise
        except OSError as error:
            raise _WentStale(f"cut off: {error}") from error
        if not got:
            raise _WentStale("closed without an answer")
        while b"\r\n\r\n" not in got and len(got) < HEAD_BYTES:
            more = self._patiently(wire, lambda: wire.recv(HEAD_BYTES))
            if not more or time.monotonic() > by_s:
                raise Unreachable(f"{self._where}: cut off in the head of an answer")
            got += more
        return answer_of(got, self._where)

    def _body(self, connection: Connection, answer: Answer, early: bytes) -> tuple[KuberError | None, bool]:
        """Receive the range or the refusal. Returns the refusal, and whether the connection can be used again."""
        if answer.status not in (200, 206):
            text = Whole(min(answer.size_bytes or 0, REFUSAL_BYTES) if answer.status >= 400 else 0)
            self._receive(connection, early, len(text.view), text)
            said = refusal(answer, bytes(text.view), self._where)
            return said, answer.keeps and len(text.view) == answer.size_bytes
        skip_bytes = answer.offset_of(self._start, self._stop, self._whole_bytes)
        size_bytes = skip_bytes + self._stop - self._start
        intake = After(skip_bytes, self._intake) if skip_bytes else self._intake
        is_all = self._receive(connection, early, size_bytes, intake)
        return None, is_all and answer.keeps and size_bytes == answer.size_bytes

    def _receive(self, connection: Connection, early: bytes, size_bytes: int, intake: Intake) -> bool:
        """Whether all of it came; not all: the intake wants no more."""
        wire, got = connection.socket, min(len(early), size_bytes)
        turn_s = marked_s = time.monotonic()
        marked = got
        more = pour(early[:got], intake)
        room, filled = intake.room() if more and got < size_bytes else memoryview(b""), 0
        while got < size_bytes and more:
            space = room[filled : filled + self._bucket.slice_bytes(len(room) - filled)]
            came = self._patiently(wire, lambda space=space: wire.recv_into(space))  # type: ignore[misc]
            if not came:
                raise Unreachable(f"{self._where}: cut off after {got} of {size_bytes} bytes")
            got, filled = got + came, filled + came
            if filled >= min(len(room), HANDED_BYTES) or got == size_bytes:
                more = intake.came(filled)
                room, filled = intake.room() if more and got < size_bytes else room, 0
            now_s = time.monotonic()
            if now_s - marked_s > self._stall_s and got < size_bytes:
                if got - marked < DRIP_BYTES:
                    raise TimeoutError
                marked_s, marked = now_s, got
            if (wait_s := self._bucket.take(came)) or (now_s - turn_s > TURN_S and self._turns.are_wanted):
                with self._turns.given_up():
                    time.sleep(wait_s)
                turn_s = time.monotonic()
        return got == size_bytes

    def _patiently(self, wire: socket.socket, receive: Callable[[], T]) -> T:
        """Receive what is there; if nothing comes in a moment, others have the turn until something does, or it is a stall."""
        try:
            return receive()
        except TimeoutError:
            wire.settimeout(self._stall_s)
        try:
            with self._turns.given_up():
                return receive()
        finally:
            wire.settimeout(MOMENT_S)
