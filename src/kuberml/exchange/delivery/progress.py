"""What a delivery says of itself: while it runs, and at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kuberml.core.ids import Digest, NodeId
from kuberml.core.seam import Part, Store


@dataclass(frozen=True)
class Progress:
    """How far one blob is. `by_source` counts verified bytes; what was here before is in `done_bytes` only."""

    blob: Digest
    done_bytes: int
    total_bytes: int
    by_source: dict[NodeId, int]


Watch = Callable[[Progress], None]


def unwatched(progress: Progress) -> None:
    """Nobody looks on."""


@dataclass
class Delivered:
    """What was brought: blobs in memory (`collect`; empty after `deliver`), and by whom.

    After `collect` the blobs are not in the store yet: `keep` or `drop` them.
    """

    blobs: tuple[bytes, ...] = ()
    by_source: dict[NodeId, int] = field(default_factory=dict)
    """Verified bytes that came from each source, the largest first."""
    local_bytes: int = 0
    """Bytes that were here already: whole blobs, pieces of others, what an earlier try had left."""
    found: list[bytes] = field(default_factory=list)
    """Whole blobs of the own store: it may drop them before the package is kept."""
    parts: list[Part] = field(default_factory=list)
    """What the other blobs came through."""

    @property
    def sources(self) -> tuple[NodeId, ...]:
        """Who gave something, most first."""
        return tuple(self.by_source)

    def gave(self, by_source: dict[NodeId, int]) -> None:
        """Add what sources gave of one blob."""
        for source, count in by_source.items():
            self.by_source[source] = self.by_source.get(source, 0) + count
        self.by_source = dict(sorted(self.by_source.items(), key=lambda item: -item[1]))

    def keep(self, store: Store) -> None:
        """Put the blobs into the store. Raises OSError: the disk is full or broken; what came is let go of."""
        try:
            for part in self.parts:
                part.finish()
            for blob in self.found:
                store.put(blob)
        finally:
            self.close()

    def drop(self) -> None:
        """The blobs are worth nothing: leave no trace."""
        for part in self.parts:
            part.discard()

    def close(self) -> None:
        """Let go; what came stays for another try."""
        for part in self.parts:
            part.close()
