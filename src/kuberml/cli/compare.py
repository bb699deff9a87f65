"""`kuberml compare`: several results in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kuberml.cli.output import console, factors_out, json_out, say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: [bold]kuberml compare runs/mine runs/mine-2[/bold]")(compare)


def compare(
    folders: Annotated[list[Path], typer.Argument(help="Run folders, two or more.")],
    out: Annotated[Path, typer.Option("--out", help="Where the page with the plots goes.")] = Path("compare.html"),
    json: Annotated[bool, typer.Option("--json", help="The comparison as JSON on stdout; no page is written.")] = False,
) -> None:
    """Put the results of several runs side by side, and say where they are not of the same experiment."""
    from kuberml.scenario.compare import compare as compared
    from kuberml.scenario.compare import write_comparison

    found = compared(folders)
    for warning in found.warnings:
        say(f"warning: {warning}")
    if json:
        json_out(found)
        return
    factors_out(found.paradigms)
    console().print(found.sentence, markup=False)
    say(f"page: {write_comparison(out, found, folders)}")
