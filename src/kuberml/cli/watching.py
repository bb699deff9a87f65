"""Live progress of a scenario: bars on a terminal, a line for each finished run elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kuberml.cli.output import console, say

if TYPE_CHECKING:
    from kuberml.scenario.progress import Progress, Watch


@contextmanager
def watching(*, quiet: bool = False) -> Iterator[Watch]:
    """A watcher for `run_scenario`; it writes to stderr only."""
    if quiet:
        from kuberml.scenario.progress import unwatched

        yield unwatched
    elif sys.stderr.isatty():
        with _bars() as watch:
            yield watch
    else:
        yield _line


def describe(step: Progress) -> str:
    """One line about where a run stands."""
    from kuberml.core.units import show_bytes, show_seconds

    if step.failed:
        return f"{step.paradigm}, seed {step.seed}: failed: {step.failed}"
    accuracy = "" if step.accuracy_mean is None else f"{100 * step.accuracy_mean:.1f} %, "
    return f"{step.paradigm}, seed {step.seed}: {accuracy}{show_seconds(step.time_s)}, {show_bytes(step.bytes_moved)}"


def _line(step: Progress) -> None:
    if step.note:
        say(f"{step.paradigm}, seed {step.seed}: {step.note}")
    elif step.done:
        say(f"[{step.run + 1}/{step.runs}] {describe(step)}")


@contextmanager
def _bars() -> Iterator[Watch]:
    """One bar over all runs, one for each run that is under way."""
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=console(stderr=True), transient=True) as bars:
        whole = bars.add_task("runs", total=None)
        single: dict[int, TaskID] = {}
        done: set[int] = set()

        def watch(step: Progress) -> None:
            if step.run in done:
                return
            if step.note:
                bars.console.print(f"{step.paradigm}, seed {step.seed}: {step.note}", markup=False)
                return
            if step.run not in single:
                single[step.run] = bars.add_task("", total=round(step.until_s) or None)
            bars.update(single[step.run], description=describe(step), completed=round(step.time_s))
            if step.done:
                done.add(step.run)
                bars.remove_task(single[step.run])
                bars.console.print(f"[{step.run + 1}/{step.runs}] {describe(step)}", markup=False)
            bars.update(whole, total=step.runs, completed=len(done))

        yield watch
