"""What commands write: results to stdout, everything else to stderr, so that `--json` can be piped."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kuberml.core.units import plain

if TYPE_CHECKING:
    from rich.console import Console

    from kuberml.scenario.result import FailedRun, ParadigmResult, Result, Target


SOME_FAILED = 5
"""Exit status where some of several runs have failed."""

_SHORT = (
    "accuracy_mean",
    "accuracy_p10",
    "virtual_time_s",
    "time_to_target_s",
    "bytes_moved",
    "bytes_to_target",
    "energy_j",
)
"""Factors that fit on a terminal; the report has all."""

LINES = "\n\t"
"""What our own texts are laid out with."""


def console(*, stderr: bool = False) -> Console:
    """A terminal, or a plain writer when there is none (then wide: lines of tables are not folded)."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, highlight=False, soft_wrap=False, width=None if stream.isatty() else 200)


def say(text: str) -> None:
    """A line to stderr, or several; nothing in it commands a terminal."""
    sys.stderr.write(f"{plain(text, keep=LINES)}\n")
    sys.stderr.flush()


def json_out(tree: Any) -> None:
    """A struct or plain tree as JSON to stdout, at once: a hub says where it is, and then runs for weeks."""
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(tree), indent=1).decode() + "\n")
    sys.stdout.flush()


def table_out(head: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: bool = False) -> None:
    """A table to stdout; its cells are shown as they are, never as markup or commands. Numbers stand to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, heading in enumerate(head):
        table.add_column(heading, justify="right" if numbers and i else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(str(cell))) for cell in row))
    console().print(table)


def result_out(result: Result, report: Path) -> None:
    """A run as people read it: the table, the sentence, and where the report lies."""
    factors_out(result.paradigms, result.target, result.failed)
    console().print(result.sentence, markup=False)
    say(f"report: {report}")


def leave_if_some_failed(result: Result, folder: Path) -> None:
    """End the command with SOME_FAILED where some of the runs in `folder` have failed, and say what to do."""
    import typer

    if result.failed:
        runs = len(result.runs) + len(result.failed)
        say(f"{len(result.failed)} of {runs} runs failed, see above; --resume --out {folder} tries these again and no other")
        raise typer.Exit(SOME_FAILED)


def factors_out(paradigms: dict[str, ParadigmResult], target: Target | None = None, failed: Sequence[FailedRun] = ()) -> None:
    """The five factors of every paradigm as a table to stdout, what the target is, and which runs have failed."""
    from kuberml.scenario.factors import NONE, known_factors
    from kuberml.scenario.failures import all_failed, seeds_left
    from kuberml.scenario.sentence import HOW_FAR, about_target

    columns = [factor for factor in known_factors(paradigms) if factor.field in _SHORT]
    rows = [
        [seeds_left(label, failed, item.seeds), *(f"{column.value(item)} {column.spread(item)}".strip() for column in columns)]
        for label, item in paradigms.items()
    ]
    rows += [[label, "failed", *[NONE] * (len(columns) - 1)] for label in all_failed(paradigms, failed)]
    table_out(["paradigm", *(column.heading for column in columns)], rows, numbers=True)
    console().print(HOW_FAR, markup=False)
    if words := about_target(target, paradigms):
        console().print(words, markup=False)
    for run in failed:
        console().print(str(run), markup=False)
    served_out(paradigms)


def served_out(paradigms: dict[str, ParadigmResult]) -> None:
    """The measures of the served cloud model as a table to stdout; nothing where no data arrive over time."""
    from kuberml.scenario import served_words

    rows = served_words.rows(paradigms)
    if rows:
        table_out(["served model", *(column.heading for column in served_words.COLUMNS)], rows, numbers=True)
