"""Bytes on their way, for people: a bar for a package and one for each source, with rates; lines where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kuberml.cli.output import console, say
from kuberml.core.units import show_bytes, show_seconds

if TYPE_CHECKING:
    from kuberml.core.ids import Digest, NodeId
    from kuberml.exchange.delivery import Progress

Watch = Callable[["Progress"], None]

LINE_S = 5.0
"""Between lines where there is no terminal."""


class Tally:
    """A package that is coming: its blobs added up."""

    def __init__(self) -> None:
        self._blobs: dict[Digest, Progress] = {}
        self._began_s = time.monotonic()
        self.there_bytes = 0
        """What was here before."""

    def add(self, progress: Progress) -> None:
        """Something came, or was found here."""
        if progress.blob not in self._blobs:
            self.there_bytes += progress.done_bytes - sum(progress.by_source.values())
        self._blobs[progress.blob] = progress

    @property
    def done_bytes(self) -> int:
        """What is here now."""
        return sum(one.done_bytes for one in self._blobs.values())

    @property
    def by_source(self) -> dict[NodeId, int]:
        """Verified bytes that each source gave."""
        total: dict[NodeId, int] = {}
        for one in self._blobs.values():
            for source, count in one.by_source.items():
                total[source] = total.get(source, 0) + count
        return total

    @property
    def took_s(self) -> float:
        """Seconds since it began."""
        return max(1e-9, time.monotonic() - self._began_s)

    def line(self, what: str, total_bytes: int) -> str:
        """All of it for people."""
        came = sum(self.by_source.values())
        here = f", {show_bytes(self.there_bytes)} were here" if self.there_bytes else ""
        rates = ", ".join(f"{show_bytes(count / self.took_s)}/s from {node}" for node, count in self.by_source.items())
        whole = f"{what}: {show_bytes(came)} of {show_bytes(total_bytes)} in {show_seconds(self.took_s)}"
        return f"{whole}{here}{f', {rates}' if rates else ''}"


@contextmanager
def moving(what: str, total_bytes: int, *, quiet: bool = False) -> Iterator[Watch]:
    """Show how a package comes, until the end of the block.

    Args:
        what: its name.
        total_bytes: its size.
        quiet: show nothing.
    """
    tally = Tally()
    if quiet:
        yield tally.add
        return
    if sys.stderr.isatty():
        with _bars(what, total_bytes, tally) as watch:
            yield watch
    else:
        yield _lines(what, total_bytes, tally)
    if tally.done_bytes:
        say(tally.line(what, total_bytes))


@contextmanager
def _bars(what: str, total_bytes: int, tally: Tally) -> Iterator[Watch]:
    from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    name = TextColumn("{task.description}", markup=False)
    columns = (name, BarColumn(bar_width=30), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bars(*columns, console=console(stderr=True), transient=True) as bars:
        whole = bars.add_task(what, total=total_bytes)
        sources: dict[NodeId, TaskID] = {}

        def watch(progress: Progress) -> None:
            before = tally.there_bytes
            tally.add(progress)
            if tally.there_bytes != before:
                bars.reset(whole, completed=tally.done_bytes)  # what was here must not look like speed
            bars.update(whole, completed=tally.done_bytes)
            for source, count in tally.by_source.items():
                if source not in sources:
                    sources[source] = bars.add_task(f"  from {source}", total=total_bytes)
                bars.update(sources[source], completed=count)

        yield watch


def _lines(what: str, total_bytes: int, tally: Tally) -> Watch:
    said_s = time.monotonic()

    def watch(progress: Progress) -> None:
        nonlocal said_s
        tally.add(progress)
        if time.monotonic() - said_s >= LINE_S:
            said_s = time.monotonic()
            say(tally.line(what, total_bytes))

    return watch
