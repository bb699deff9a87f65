"""What a run tells whoever watches it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Where one run of a scenario stands.

    Attributes:
        run: its place among all runs of the scenario, from 0; `runs`: how many there are.
        time_s, until_s: virtual seconds now, and at most.
        accuracy_mean: as last measured; None before the first time.
        done: the run has ended (or was taken over from before by `--resume`).
        note: something to be told at once, that says nothing else of where the run stands.
        failed: why it ended without a result; "" = it did not.
    """

    paradigm: str
    seed: int
    run: int
    runs: int
    time_s: float = 0.0
    until_s: float = 0.0
    bytes_moved: int = 0
    accuracy_mean: float | None = None
    done: bool = False
    note: str = ""
    failed: str = ""


Watch = Callable[[Progress], None]
"""Called now and then, from the main thread but for a `note`; what it does cannot change a result."""


def unwatched(progress: Progress) -> None:
    """The watcher that looks away."""
