"""What was said of the latest versions, remembered over a restart: how far an edge's word counts rests on it.

A ring in the node's memory, so a service that runs for years keeps and weighs as much as one that runs for a day.
"""

from __future__ import annotations

from collections.abc import Iterable

from kuberml.exchange.memory import Memory
from kuberml.exchange.standing import Standing
from kuberml.knowledge.verdict import Verdict

LATEST = 64
"""Versions of which words count."""
_PLACE = "cloud.words."

Words = tuple[Verdict, ...]


class Heard:
    """Verdicts on the latest versions, in memory and in a `Standing` alike."""

    def __init__(self, memory: Memory, standing: Standing) -> None:
        """Let `standing` hear what was heard before a restart."""
        self._memory, self._standing = memory, standing
        for place in range(LATEST):
            for verdict in self._at(place)[1]:
                standing.heard(verdict)

    @property
    def witnesses(self) -> set[str]:
        """Public keys of all who said something of these versions."""
        return {verdict.witness for place in range(LATEST) for verdict in self._at(place)[1]}

    def hear(self, number: int, verdicts: Iterable[Verdict]) -> None:
        """Everything that was said so far of a version. What was said of the one in its place is forgotten.

        Raises:
            OSError: the disk is full or broken; nothing changed then.
        """
        words, place = tuple(verdicts), number % LATEST
        before, old = self._at(place)
        self._memory.update(**{f"{_PLACE}{place}": (number, words)})
        if before != number:
            for card in {verdict.card for verdict in old}:
                self._standing.forget(card)
        for verdict in words:
            self._standing.heard(verdict)

    def _at(self, place: int) -> tuple[int, Words]:
        found: tuple[int, Words] = self._memory.get(f"{_PLACE}{place}", (0, ()))
        return found
