"""Micro-batches: what arrives while an engine is busy is answered together next. Nothing waits for company.

The queue is bounded by how long the next one would *wait*, estimated from what is queued, what runs, how long batches take
(`pace`), and how late this event loop is. Beyond that a request is refused at once (429), so those that are served stay quick.

A batch holds whole requests of one version (`slot.Live`): an answer can never be of two.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from kuberml.learning.types import Array
from kuberml.serving.http.pace import Pace
from kuberml.serving.http.problem import Refusal
from kuberml.serving.http.slot import Live

TICK_S = 0.02
"""How often this loop looks how late it is."""
LATE_MEMORY = 0.7


@dataclass(eq=False, slots=True)
class _Waiting:
    live: Live
    x_N: Array
    answer: asyncio.Future[Array]


class Batcher:
    """Between requests and engines. It lives in one event loop; engines run on threads of its own."""

    def __init__(self, *, max_batch: int = 64, max_wait_s: float = 0.25, threads: int = 1) -> None:
        """`max_batch`: rows that an engine gets at once. `max_wait_s`: see the module. `threads`: engines at work at a time."""
        self.max_batch, self.max_wait_s = max_batch, max_wait_s
        self.pace = Pace()
        self.batches = self.rows = 0
        """So far."""
        self.late_s = 0.0
        """How late this loop is, lately."""
        self._queue: deque[_Waiting] = deque()
        self._queued_rows = 0
        self._idle = self._threads = threads
        self._until_s: dict[int, float] = {}
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="kuberml engine")
        self._ticking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch the loop that this is called in."""
        self._ticking = asyncio.get_running_loop().create_task(self._tick(), name="how late the loop is")

    @property
    def queued_rows(self) -> int:
        """Rows that wait for an engine."""
        return self._queued_rows

    @property
    def wait_s(self) -> float:
        """How long a request that comes now would wait for its engine, as far as is known."""
        now_s = asyncio.get_running_loop().time()
        running_s = sum(max(0.0, until_s - now_s) for until_s in self._until_s.values())
        queued_s = self.pace.seconds(self._queued_rows, math.ceil(self._queued_rows / self.max_batch))
        return self.late_s + (running_s + queued_s) / self._threads

    def check(self) -> None:
        """Raises Refusal (429): who comes now would wait too long."""
        if (wait_s := self.wait_s) > self.max_wait_s:
            raise Refusal(429, f"busy: an answer would wait {wait_s:.2f} s, which is over the limit of {self.max_wait_s:g} s",
                          right="try again after Retry-After seconds", retry_s=max(1, math.ceil(wait_s)))  # fmt: skip

    async def answer(self, live: Live, x_N: Array) -> Array:
        """Log-probabilities float32 [N, C] of all rows by this version.

        Raises:
            Refusal: 429, see the module.
        """
        self.check()
        waiting = _Waiting(live, x_N, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._queued_rows += len(x_N)
        self._start()
        return await waiting.answer

    async def close(self) -> None:
        """Stop; what still waits is left unanswered."""
        if self._ticking is not None:
            self._ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticking
        for waiting in self._queue:
            waiting.answer.cancel()
        self._pool.shutdown(cancel_futures=True)

    def _start(self) -> None:
        """Give idle engines what waits."""
        while self._idle and (batch := self._next()):
            self._idle -= 1
            rows = sum(len(one.x_N) for one in batch)
            began_s = asyncio.get_running_loop().time()
            future = asyncio.get_running_loop().run_in_executor(self._pool, _run, batch, self.max_batch)
            self._until_s[id(future)] = began_s + self.pace.seconds(rows, math.ceil(rows / self.max_batch))
            future.add_done_callback(lambda done, batch=batch, began_s=began_s: self._done(done, batch, began_s))  # type: ignore[misc]

    def _next(self) -> list[_Waiting]:
        """The longest waiting requests of one version that fit into a batch; the first always does."""
        batch: list[_Waiting] = []
        rows = 0
        while self._queue:
            first = self._queue[0]
            fits = not batch or (first.live is batch[0].live and rows + len(first.x_N) <= self.max_batch)
            if not first.answer.cancelled():
                if not fits:
                    break
                batch.append(first)
                rows += len(first.x_N)
            self._queue.popleft()
            self._queued_rows -= len(first.x_N)
        return batch

    def _done(self, done: asyncio.Future[list[Array | Exception]], batch: list[_Waiting], began_s: float) -> None:
        self._idle += 1
        self._until_s.pop(id(done), None)
        if done.cancelled():
            return
        rows = sum(len(one.x_N) for one in batch)
        self.pace.took(rows, asyncio.get_running_loop().time() - began_s)
        self.batches += 1
        self.rows += rows
        for one, answer in zip(batch, done.result(), strict=True):
            if one.answer.done():  # its client has left
                continue
            if isinstance(answer, Exception):
                one.answer.set_exception(answer)
            else:
                one.answer.set_result(answer)
        self._start()

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            late_s = max(0.0, loop.time() - due_s)
            self.late_s = max(late_s, LATE_MEMORY * self.late_s + (1 - LATE_MEMORY) * late_s)


def _run(batch: Sequence[_Waiting], max_batch: int) -> list[Array | Exception]:
    """The answer to each request of a batch. One that an engine cannot bear does not take the others with it."""
    try:
        return list(_predict(batch, max_batch))
    except Exception as error:  # what an engine raises is answered, not lost
        if len(batch) == 1:
            return [error]
    return [answer for one in batch for answer in _run([one], max_batch)]


def _predict(batch: Sequence[_Waiting], max_batch: int) -> list[Array]:
    engine = batch[0].live.engine
    x_N = batch[0].x_N if len(batch) == 1 else np.concatenate([one.x_N for one in batch])
    with np.errstate(all="ignore"):  # what is not finite is refused where it is written
        parts = [engine.predict(x_N[at : at + max_batch]) for at in range(0, len(x_N), max_batch)]
    found_NC = parts[0] if len(parts) == 1 else np.concatenate(parts)
    ends = np.cumsum([len(one.x_N) for one in batch])
    return np.split(found_NC, ends[:-1])
