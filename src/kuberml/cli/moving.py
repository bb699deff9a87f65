"""Bytes on their way, for people: a bar for a package and one for each source, with rates; lines where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kuberml.cli.output import console, say
from kuberml.core.units import show_bytes, show_seconds

if TYPE_CHECKING:
    from kuberml.core.ids import Digest, NodeId
    from kuberml.core.seam import Transport

Moved = Callable[[str, int], None]
"""Told of bytes as they come: (source, count)."""

LINE_S = 5.0
"""Between lines where there is no terminal."""


class Metered:
    """A transport whose reads are counted by source. Everything else is the transport's own."""

    def __init__(self, transport: Transport, moved: Moved) -> None:
        self._transport, self._moved = transport, moved

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    async def read(self, holder: NodeId, digest: Digest, start: int, stop: int, *, timeout_s: float) -> bytes:
        """See the seam."""
        data = await self._transport.read(holder, digest, start, stop, timeout_s=timeout_s)
        self._moved(str(holder), len(data))
        return data


@contextmanager
def moving(what: str, total_bytes: int, there_bytes: int = 0, *, quiet: bool = False) -> Iterator[Moved]:
    """Show how a package comes, until the end of the block.

    Args:
        what: its name.
        total_bytes: its size.
        there_bytes: so much is here already.
        quiet: show nothing.
    """
    if quiet:
        yield lambda source, count: None
    elif sys.stderr.isatty():
        with _bars(what, total_bytes, there_bytes) as moved:
            yield moved
    else:
        yield from _lines(what, total_bytes, there_bytes)


@contextmanager
def _bars(what: str, total_bytes: int, there_bytes: int) -> Iterator[Moved]:
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    name = TextColumn("{task.description}", markup=False)
    columns = (name, BarColumn(bar_width=30), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True)) as bars:
        whole = bars.add_task(what, total=total_bytes, completed=there_bytes)
        sources: dict[str, TaskID] = {}

        def moved(source: str, count: int) -> None:
            if source not in sources:
                sources[source] = bars.add_task(f"  from {source}", total=total_bytes)
            bars.update(sources[source], advance=count)
            bars.update(whole, advance=count)

        yield moved


def _lines(what: str, total_bytes: int, there_bytes: int) -> Iterator[Moved]:
    began_s = said_s = time.monotonic()
    sources: dict[str, int] = {}
    if there_bytes:
        say(f"{what}: {show_bytes(there_bytes)} of {show_bytes(total_bytes)} are here already")

    def line() -> str:
        came, took_s = sum(sources.values()), max(1e-9, time.monotonic() - began_s)
        each = ", ".join(f"{show_bytes(count / took_s)}/s from {source}" for source, count in sorted(sources.items()))
        whole = f"{show_bytes(there_bytes + came)} of {show_bytes(total_bytes)}"
        return f"{what}: {whole} in {show_seconds(took_s)}{', ' if each else ''}{each}"

    def moved(source: str, count: int) -> None:
        nonlocal said_s
        sources[source] = sources.get(source, 0) + count
        if time.monotonic() - said_s >= LINE_S:
            said_s = time.monotonic()
            say(line())

    yield moved
    say(line())
