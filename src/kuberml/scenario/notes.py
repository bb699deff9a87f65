"""What a run's nodes recorded, kept in memory for the summary while it also goes to the ledger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kuberml.core.ids import NodeId
from kuberml.core.seam import Recorder

KEPT = frozenset(
    {
        *("absorbed", "refused", "published", "withheld", "found", "fetched", "spent", "not taught", "undelivered"),
        *("streaming", "privacy", "round lost"),
    }
)
"""Events that a summary needs."""


@dataclass(frozen=True, slots=True)
class Note:
    """One event: who, when, what."""

    time_ns: int
    node: NodeId
    event: str
    fields: dict[str, Any]


class Notes:
    """All notes of a run, in order."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self.all: list[Note] = []
        self.unanswered: dict[str, tuple[int, str]] = {}
        """By what was asked: how often nobody answered or it was refused, and what was said the first time."""

    def beside(self, node: NodeId, recorder: Recorder) -> Recorder:
        """A recorder for a node that notes here and hands on to another."""
        return _Both(self, node, recorder)

    def of(self, event: str) -> list[Note]:
        """Notes of one event."""
        return [note for note in self.all if note.event == event]

    def add(self, node: NodeId, event: str, fields: dict[str, Any]) -> None:
        """Keep an event if a summary needs it. Of what was not answered, which may be much, only how often."""
        if event == "unanswered":
            count, why = self.unanswered.get(fields["asked"], (0, fields["why"]))
            self.unanswered[fields["asked"]] = count + 1, why
        if event in KEPT:
            self.all.append(Note(self._now_ns(), node, event, fields))


class _Both:
    def __init__(self, notes: Notes, node: NodeId, recorder: Recorder) -> None:
        self._notes, self._node, self._recorder = notes, node, recorder

    def record(self, event: str, **fields: Any) -> None:
        self._notes.add(self._node, event, fields)
        self._recorder.record(event, **fields)
