"""Which bytes are asked for next, of which source: pure, so that every decision can be tested without a network."""

from __future__ import annotations

from dataclasses import dataclass, field

from kuberml.core.seam import Reading
from kuberml.exchange.delivery.sources import Source, Sources
from kuberml.knowledge.card import BlobRef
from kuberml.knowledge.pieces import span

WINDOW_MIN_BYTES = 1 << 20
"""Smaller reads cost more round trips than they save."""
GROUP_BYTES = 512 << 10
"""Small pieces are received together, up to so much: each is judged by itself, but not each is worth a turn of its own."""
LATE_MIN_S = 0.5
"""No read is late before that, where another was measured; where none was, after LATE_UNKNOWN_S."""
LATE_UNKNOWN_S = 1.0
LATE_FACTOR = 3.0
"""A read is late when it takes so many times longer than reads took so far: it is asked for elsewhere too."""
OVERDUE_PART = 0.5
"""After this part of the time until it is late, a read takes up no place any more: another may run beside it."""
NEAR_S, NEAR_READS = 0.01, 3
"""From a source that begins to answer within the first, so many reads at once are as quick as more, and nearly in order."""
LONG_WINDOWS = 4
"""Where nothing but a piece can be lost and nobody else could help, reads are so many times longer: fewer round trips."""
TICK_S = 0.001
"""Added to every wait, so that the clock has passed the moment that was waited for."""


@dataclass(eq=False)
class Job:
    """One read: pieces first .. last - 1."""

    source: Source
    first: int
    last: int
    start: int
    stop: int
    started_s: float
    at_risk_bytes: int
    """What a kill loses of it at most."""
    is_late: bool = False
    has_begun: bool = False
    """Its first bytes have come."""
    twin: Job | None = field(default=None, repr=False)
    """The other read of the same bytes."""

    @property
    def size_bytes(self) -> int:
        """Asked for."""
        return self.stop - self.start


class Plan:
    """What is here, what is under way, what is next."""

    def __init__(self, ref: BlobRef, count: int, sources: Sources, reading: Reading) -> None:
        """`count`: pieces that are wanted, the first ones."""
        self.ref, self.count, self.sources, self._reading = ref, count, sources, reading
        self.here = bytearray(count)
        self.jobs: list[Job] = []
        self.left_bytes = ref.cuts[count - 1]
        self._claimed = bytearray(count)
        self.streams = False
        """Whether pieces are verified while they come: then no more than one of a read is lost with it."""
        self._width = min(NEAR_READS, reading.parallel)
        self._is_near = False  # not known yet
        self._from = 0  # no piece before it is missing and unclaimed
        self._rate = 0.0

    @property
    def is_done(self) -> bool:
        """Everything is here."""
        return self.left_bytes == 0

    def has(self, index: int) -> bool:
        """A piece is here now; whether that is new."""
        if self.here[index]:
            return False
        start, stop = span(self.ref, index)
        self.here[index], self.left_bytes = 1, self.left_bytes - (stop - start)
        return True

    def next(self, now_s: float) -> Job | None:
        """The next read, which counts as under way from now on; None: not now."""
        self._look_at_the_clock(now_s)
        many = self._most_reads(now_s)
        waiting = [job for job in self.jobs if not self._is_overdue(job, now_s)]
        if len(waiting) >= many or len(self.jobs) >= 2 * many:
            return None
        return self._again(now_s) or self._onward(now_s, sum(job.at_risk_bytes for job in waiting))

    def _most_reads(self, now_s: float) -> int:
        """How many may run at once: of one source that is near, few; once it was seen to be far away, and of several, all."""
        if not self.streams or self.sources.is_choice:
            return self._reading.parallel
        self._is_near = self._is_near or any(job.has_begun for job in self.jobs)
        if any(not job.has_begun and now_s - job.started_s >= NEAR_S for job in self.jobs):
            self._width = self._reading.parallel
        return self._width

    def _at_risk_bytes(self, first: int, last: int) -> int:
        """What a kill loses of a read at most: all of it, or where pieces are verified while they come, one or a group."""
        size_bytes = self.ref.cuts[last - 1] - span(self.ref, first)[0]
        if not self.streams:
            return size_bytes
        largest = max(stop - start for start, stop in (span(self.ref, index) for index in range(first, last)))
        return min(size_bytes, max(largest, GROUP_BYTES))

    def _again(self, now_s: float) -> Job | None:
        """A late window, from somebody else."""
        for job in self.jobs:
            if job.is_late and job.twin is None:
                source = self.sources.best(now_s, without=(job.source,))
                if source is not None:
                    job.twin = self._start(source, job.first, job.last, now_s)
                    job.twin.twin = job
                    return job.twin
        return None

    def _onward(self, now_s: float, waiting_bytes: int) -> Job | None:
        """The first window that nobody was asked for."""
        while self._from < self.count and (self.here[self._from] or self._claimed[self._from]):
            self._from += 1
        source = self.sources.best(now_s) if self._from < self.count else None
        if source is None:
            return None
        first, room_bytes = self._from, self._window_bytes(source)
        start, last = span(self.ref, first)[0], first + 1
        while last < self.count and not (self.here[last] or self._claimed[last]) and self.ref.cuts[last] - start <= room_bytes:
            last += 1
        most_bytes = max(self.left_bytes // 2, 2 * WINDOW_MIN_BYTES)
        if waiting_bytes and waiting_bytes + self._at_risk_bytes(first, last) > most_bytes and self._reading.parallel > 1:
            return None  # a kill loses what is under way: never more than the half of what is missing anyway
        self._claimed[first:last] = bytes([1]) * (last - first)
        return self._start(source, first, last, now_s)

    def _window_bytes(self, source: Source) -> int:
        if self._reading.parallel == 1:
            return self._reading.window_bytes
        if not source.is_proven and self.sources.is_choice:
            return 0  # one piece: it may be a liar
        most_bytes, shares = self._reading.window_bytes, 2 * self._reading.parallel
        if self.streams and not self.sources.is_choice:
            shares = self._width  # a second turn would cost a second round trip
            most_bytes = LONG_WINDOWS * most_bytes if self._is_near or self._width > NEAR_READS else most_bytes // 2
        return min(most_bytes, max(WINDOW_MIN_BYTES, self.left_bytes // shares))

    def _start(self, source: Source, first: int, last: int, now_s: float) -> Job:
        start, stop = span(self.ref, first)[0], self.ref.cuts[last - 1]
        job = Job(source, first, last, start, stop, now_s, self._at_risk_bytes(first, last))
        source.reads += 1
        self.jobs.append(job)
        return job

    def ended(self, job: Job, now_s: float, *, gave_bytes: int) -> None:
        """A read is over; what it did not bring is asked for again."""
        self.jobs.remove(job)
        job.source.reads -= 1
        job.source.late -= job.is_late
        if job.twin is not None:
            job.twin.twin = None
        if job.is_late and not gave_bytes:
            job.source.is_beaten(now_s)
        if job.twin is None and not all(self.here[job.first : job.last]):
            self._claimed[job.first : job.last] = bytes(job.last - job.first)
            self._from = min(self._from, job.first)
        if gave_bytes:
            took_s = now_s - job.started_s
            job.source.gives(gave_bytes, took_s)
            self._measure(gave_bytes, took_s)

    def _measure(self, size_bytes: int, took_s: float) -> None:
        """Rises at once and falls slowly: small reads are mostly round trip, and say little of what large ones take."""
        rate = size_bytes / max(took_s, 1e-6)
        if self._rate == 0.0 or rate > self._rate:
            self._rate = rate
        elif size_bytes >= WINDOW_MIN_BYTES // 4:
            self._rate = 0.8 * self._rate + 0.2 * rate

    def wait_s(self, now_s: float) -> float | None:
        """How long nothing can change unless a read ends; None: for ever."""
        moments = [moment for job in self.jobs if self._is_watched for moment in self._moments(job) if moment > now_s]
        if self.streams and self._width < self._reading.parallel:
            moments += [at_s for job in self.jobs if not job.has_begun and (at_s := job.started_s + NEAR_S) > now_s]
        ready_s = self.sources.next_ready_s(now_s)
        moments += [] if ready_s is None else [ready_s]
        return max(0.0, min(moments) - now_s) + TICK_S if moments else None

    @property
    def _is_watched(self) -> bool:
        return self._reading.parallel > 1 and self.sources.is_choice

    def _look_at_the_clock(self, now_s: float) -> None:
        for job in self.jobs:
            if self._is_watched and not job.is_late and now_s >= self._moments(job)[1]:
                job.is_late = True
                job.source.late += 1

    def _moments(self, job: Job) -> tuple[float, float]:
        """When a read is overdue, and when it is late."""
        patience_s = self._patience_s(job)
        return job.started_s + OVERDUE_PART * patience_s, job.started_s + patience_s

    def _is_overdue(self, job: Job, now_s: float) -> bool:
        return self._is_watched and now_s >= self._moments(job)[0]

    def _patience_s(self, job: Job) -> float:
        return max(LATE_MIN_S, LATE_FACTOR * job.size_bytes / self._rate) if self._rate else LATE_UNKNOWN_S
