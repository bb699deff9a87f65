"""The one table of a live run: on a terminal it is drawn in place, elsewhere only what happens is told, a line each."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kuberml.cli.output import console, say

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

    from kuberml.scenario.live.view import Row, Tell, View

NEWS = 5
"""Lines under the table."""
HEAD = ("node", "role", "state", "step", "knows", "accuracy", "in", "out", "kept", "refused")
NUMBERS = frozenset(("step", "accuracy", "in", "out", "kept", "refused"))


@contextmanager
def watching_live() -> Iterator[Tell]:
    """A watcher for `play_live`; it writes to stderr only."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.live import Live

    with Live(console=console(stderr=True), refresh_per_second=4, transient=False) as live:
        yield lambda view: live.update(table(view))


def table(view: View) -> Group:
    """The table, what it stands under and what has happened."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in HEAD:
        drawn.add_column(heading, justify="right" if heading in NUMBERS else "left", no_wrap=heading != "knows", max_width=34)
    for row in view.rows:
        drawn.add_row(*(Text(cell) for cell in cells(row, begun=view.time_s is not None)))
    parts: list[RenderableType] = [Text(headline(view)), drawn]
    return Group(*parts, *(Text(line, style="yellow") for line in view.news[-NEWS:]))


def headline(view: View) -> str:
    """One line about the run."""
    from kuberml.core.units import show_bytes, show_seconds

    if view.time_s is None:
        here = sum(row.status is not None or row.role == "hub" for row in view.rows)
        stand = f"starting, {here} of {len(view.rows)} are here"
    else:
        stand = f"{show_seconds(view.time_s)} of at most {show_seconds(view.until_s)}, {show_bytes(view.moved_bytes)} moved"
    return f"{view.paradigm}, seed {view.seed}: {stand}. Page of the hub: {view.page}"


def cells(row: Row, *, begun: bool) -> list[str]:
    """One row of the table."""
    from kuberml.core.units import show_bytes

    status = row.status
    if row.lost:
        state = f"lost (died {row.deaths}x)"
    elif status is None:
        state = ("serving" if begun else "starting") if row.role == "hub" and row.pid else "starting"
    else:
        state = status.phase
    if row.deaths and not row.lost:
        state += f", restarted {row.deaths}x"
    head = [row.node, row.role, state]
    if status is None:
        return [*head, *("" for _ in HEAD[3:])]
    labels, accuracy = list(status.labels), status.accuracy_ppm
    knows = " ".join(labels[:12]) + (f" +{len(labels) - 12}" if len(labels) > 12 else "")
    return [
        *head,
        str(status.step or ""),
        knows,
        "" if accuracy is None else f"{accuracy / 1e4:.1f} %",
        show_bytes(status.received_bytes),
        show_bytes(status.sent_bytes),
        str(status.accepted or ""),
        str(status.refused or ""),
    ]


class _Lines:
    """For a log: who is here, what happened, how it ends."""

    def __init__(self) -> None:
        self._news: dict[str, int] = {}
        self._begun: set[str] = set()

    def __call__(self, view: View) -> None:
        told = self._news.get(view.paradigm, 0)
        for line in view.news[told:]:
            say(line)
        self._news[view.paradigm] = len(view.news)
        if view.time_s is not None and view.paradigm not in self._begun:
            self._begun.add(view.paradigm)
            say(f"{view.paradigm}, seed {view.seed}: all {len(view.rows)} processes are here. Page of the hub: {view.page}")
