"""Who is asked: sources of one blob, what each has shown so far, and which one is next. Pure."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from kuberml.core.ids import NodeId

TRIES = 2
"""Failures in a row after which a source is given up, where several reads are under way; else one."""
PAUSE_S = 0.5
"""Before a source that failed is asked again; twice as long each time, up to PAUSE_MAX_S."""
PAUSE_MAX_S = 4.0
BEATEN_S, BEATEN_MAX_S = 2.0, 30.0
"""How long a source rests that took too long while another was quicker; twice as long each time. Then it gets one piece."""


@dataclass(eq=False)
class Source:
    """One holder, as far as one blob is concerned."""

    node: NodeId
    is_proven: bool
    """It has given right pieces: of this blob or of another."""
    has_lied: bool = False
    """When another blob was delivered."""
    gone: str = ""
    """Why it is asked no more; "" while it is."""
    why: str = ""
    """What was wrong last."""
    reads: int = 0
    """Under way."""
    late: int = 0
    """Of them, those that take too long."""
    failures: int = 0
    failed_s: float = float("-inf")
    beaten: int = 0
    rests_until_s: float = float("-inf")
    rate_bytes_s: float = 0.0
    """Bytes per second of one read, a moving mean."""

    def gives(self, size_bytes: int, took_s: float) -> None:
        """It has answered."""
        rate = size_bytes / max(took_s, 1e-6)
        self.rate_bytes_s = rate if self.rate_bytes_s == 0.0 else 0.5 * self.rate_bytes_s + 0.5 * rate
        self.failures = 0

    def fails(self, why: str, started_s: float, now_s: float) -> None:
        """It has not answered. Reads that ran side by side fail together: that counts once."""
        self.why = why
        if started_s >= self.failed_s:
            self.failures += 1
            self.failed_s = now_s

    def is_beaten(self, now_s: float) -> None:
        """It took too long. Reads that ran side by side count once."""
        if now_s >= self.rests_until_s:
            self.rests_until_s = now_s + min(BEATEN_MAX_S, BEATEN_S * 2**self.beaten)
            self.beaten += 1
        self.is_proven = False

    @property
    def ready_s(self) -> float:
        """When it may be asked again."""
        pause_s = min(PAUSE_MAX_S, PAUSE_S * 2 ** (self.failures - 1)) if self.failures else 0.0
        return max(self.failed_s + pause_s, self.rests_until_s)


class Sources:
    """All sources of one blob, those that the caller prefers first."""

    def __init__(self, nodes: Sequence[NodeId], proven: Container[NodeId], liars: Container[NodeId], *, parallel: int) -> None:
        """`proven`, `liars`: who gave right bytes, and wrong ones, earlier."""
        self.all = [Source(node, node in proven, node in liars) for node in dict.fromkeys(nodes)]
        self._parallel = parallel

    @property
    def usable(self) -> list[Source]:
        """Those that may still help; who has lied before is one only when nobody else is left."""
        left = [source for source in self.all if not source.gone]
        return [source for source in left if not source.has_lied] or left

    def best(self, now_s: float, *, without: Sequence[Source] = ()) -> Source | None:
        """Whom to ask now; None: nobody.

        One read at a time: the first that is left, until it fails. Several: who is new gets one piece to show itself; then
        whoever is likely to be quickest.
        """
        usable = self.usable
        free = [one for one in usable if one not in without and one.ready_s <= now_s]
        if self._parallel == 1:
            return free[0] if free else None
        if self.is_choice:
            free = [one for one in free if not one.late and (one.is_proven or not one.reads)]
        return min(free, key=lambda one: (one.failures, one.is_proven, self._wait(one)), default=None)

    @property
    def is_choice(self) -> bool:
        """Whether there is more than one to ask."""
        return len(self.usable) > 1

    def next_ready_s(self, now_s: float) -> float | None:
        """When somebody who pauses may be asked again; None: nobody pauses."""
        return min((one.ready_s for one in self.usable if one.ready_s > now_s), default=None)

    def give_up(self, now_s: float, progress_s: float, patience_s: float) -> None:
        """Let go of who failed too often, unless patience is left."""
        tries = 1 if self._parallel == 1 else TRIES
        for one in self.usable:
            if one.failures >= tries and now_s - progress_s >= patience_s:
                one.gone = one.why

    @staticmethod
    def _wait(source: Source) -> float:
        """How long one more read would take, up to a factor."""
        return (source.reads + 1) / source.rate_bytes_s if source.rate_bytes_s else 0.0
