"""One blob on its way: reads under way, what comes back, who is believed."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import NamedTuple, cast

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.core.ids import NodeId
from kuberml.core.seam import Part, Reading, Streaming, Transport
from kuberml.core.tasks import end_all
from kuberml.exchange.delivery.intake import Buffers, Pieces
from kuberml.exchange.delivery.plan import Job, Plan
from kuberml.exchange.delivery.progress import Progress, Watch
from kuberml.exchange.place import OverBudget
from kuberml.knowledge.pieces import span

BESIDE_MIN_BYTES = 128 * 1024
"""Less is hashed and written at once: a thread would cost more."""
REPORT_S = 0.25
"""Between words of progress while reads are under way: over a slow link one may take minutes."""


class _Came(NamedTuple):
    """What one read brought: pieces that are verified and written, and what was wrong."""

    pieces: list[int]
    size_bytes: int = 0
    lie: str = ""
    refusal: str = ""
    silence: str = ""


@functools.cache
def _streams(sort: type) -> bool:
    """Whether transports of this sort do: asked once, since looking at a protocol's members takes longer than a small read."""
    return issubclass(sort, Streaming)


class Transfer:
    """See the module. Runs once."""

    def __init__(
        self,
        plan: Plan,
        part: Part,
        transport: Transport,
        reading: Reading,
        *,
        on_bytes: Callable[[int], None],
        watch: Watch,
        liars: dict[NodeId, str],
        proven: set[NodeId],
    ) -> None:
        """What is to come (`plan`), where it goes (`part`), and what is known of sources: both are added to."""
        self._plan, self._part, self._transport, self._reading = plan, part, transport, reading
        self._streaming = cast(Streaming, transport) if _streams(type(transport)) else None
        plan.streams = self._streaming is not None
        self._on_bytes, self._watch, self._liars, self._proven = on_bytes, watch, liars, proven
        self._tasks: dict[asyncio.Task[_Came], Job] = {}
        self._intakes: dict[Job, Pieces] = {}
        self._buffers = Buffers()
        self._progress_s = float("-inf")
        self.by_source: dict[NodeId, int] = {}

    async def run(self) -> None:
        """Until everything is in the part.

        Raises:
            Unreachable: no source could give the rest now; the message names each and says why.
            OverBudget: `on_bytes` said so.
            OSError: the part's disk is full or broken.
        """
        self._report()
        try:
            while not self._plan.is_done:
                await self._step()
        finally:
            await self._stop(list(self._tasks))

    async def _step(self) -> None:
        job = self._plan.next(self._now_s())
        if job is not None and self._reading.parallel == 1:
            self._settle(job, await self._read(job))
        elif job is not None:
            self._tasks[asyncio.ensure_future(self._read(job))] = job
        elif self._tasks:
            await self._settle_next()
        elif (wait_s := self._plan.wait_s(self._now_s())) is not None:
            await asyncio.sleep(wait_s)
        else:
            raise self._failure()

    async def _settle_next(self) -> None:
        """Wait until a read ends, or is late."""
        wait_s = self._plan.wait_s(self._now_s())
        if self._streaming is not None:
            wait_s = REPORT_S if wait_s is None else min(wait_s, REPORT_S)
        ended, _ = await asyncio.wait(self._tasks, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        if not ended and self._streaming is not None:
            self._report()
        for task in [task for task in self._tasks if task in ended]:
            job = self._tasks.pop(task, None)
            if job is not None and not task.cancelled():
                moot = self._settle(job, task.result())
                await self._stop([task for task, other in self._tasks.items() if other in moot])

    async def _stop(self, tasks: list[asyncio.Task[_Came]]) -> None:
        """End reads that nobody needs any more."""
        await end_all(tasks)
        for task in tasks:
            job = self._tasks.pop(task)
            self._intakes.pop(job, None)
            self._plan.ended(job, self._now_s(), gave_bytes=0)

    async def _read(self, job: Job) -> _Came:
        """Read a window, and write what is right of it."""
        intake, refusal, silence = Pieces(self._plan.ref, job, self._part, self._buffers), "", ""
        self._intakes[job] = intake
        try:
            await self._take(job, intake)
        except OverBudget:
            raise
        except RemoteError as error:
            refusal = str(error)
        except Unreachable as error:
            silence = str(error)
        intake.end()  # not where this was cancelled: then a thread may still be at it
        self._on_bytes(intake.size_bytes)
        if intake.error is not None:
            raise intake.error
        return _Came(intake.good, intake.size_bytes, lie=intake.lie, refusal=refusal, silence=silence)

    async def _take(self, job: Job, intake: Pieces) -> None:
        digest, node, timeout_s = self._plan.ref.digest, job.source.node, self._reading.timeout_s
        if self._streaming is not None:
            return await self._streaming.stream(node, digest, job.start, job.stop, intake, timeout_s=timeout_s)
        data = memoryview(await self._transport.read(node, digest, job.start, job.stop, timeout_s=timeout_s))
        if len(data) != job.size_bytes:
            intake.size_bytes, intake.lie = len(data), f"{len(data)} bytes came, {job.size_bytes} were asked for"
        elif len(data) < BESIDE_MIN_BYTES:
            intake.take(data)
        else:
            await self._part.beside(lambda: intake.take(data))
        return None

    def _settle(self, job: Job, came: _Came) -> list[Job]:
        """Take a result into account. Returns the reads that are in vain now."""
        now_s, source = self._now_s(), job.source
        self._intakes.pop(job, None)
        gained_bytes = sum(stop - start for start, stop in (span(self._plan.ref, i) for i in came.pieces if self._plan.has(i)))
        if came.pieces and not came.lie:
            source.is_proven = True
            self._proven.add(source.node)
        if gained_bytes:
            self._progress_s = now_s
            self.by_source[source.node] = self.by_source.get(source.node, 0) + gained_bytes
        is_whole = len(came.pieces) == job.last - job.first
        moot = [job.twin] if job.twin is not None and is_whole else []
        self._plan.ended(job, now_s, gave_bytes=came.size_bytes if is_whole else 0)
        if came.lie:
            self._liars[source.node] = source.gone = came.lie
            self._proven.discard(source.node)
            moot = [other for other in self._plan.jobs if other.source is source]
        elif came.refusal:
            source.gone = came.refusal
        elif came.silence:
            source.fails(came.silence, job.started_s, now_s)
            self._plan.sources.give_up(now_s, self._progress_s, self._reading.patience_s)
        if gained_bytes:
            self._report()
        return moot

    def _report(self) -> None:
        ref, plan = self._plan.ref, self._plan
        total_bytes = ref.cuts[plan.count - 1]
        arrived = {i for intake in self._intakes.values() for i in tuple(intake.good) if not plan.here[i]}
        left_bytes = plan.left_bytes - sum(stop - start for start, stop in (span(ref, i) for i in arrived))
        self._watch(Progress(ref.digest, total_bytes - left_bytes, total_bytes, dict(self.by_source)))

    def _failure(self) -> Unreachable:
        ref, sources = self._plan.ref, self._plan.sources.all
        why = "; ".join(f"{source.node}: {source.gone or source.why}" for source in sources) or "it has no holder"
        return Unreachable(f"blob {ref.digest[:12]} ({ref.size_bytes} bytes) was not delivered; {why}")

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()
