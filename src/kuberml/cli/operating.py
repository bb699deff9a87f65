"""What an operator may ask of a service that runs in a folder: its history, and to go back, forget or let in again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from kuberml.cli.output import json_out, say, table_out

FOLDER = Path("kuberml-serve")
SHORT = 12
"""Characters of a digest that people are shown."""

FolderOption = Annotated[Path, typer.Option("--folder", help="Where it keeps key, packages and history; made if missing.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON on stdout.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `kuberml serve`."""
    app.command(epilog="Example: [bold]kuberml serve history --json[/bold]")(history)
    app.command(
        epilog="Examples: [bold]kuberml serve rollback[/bold] · [bold]kuberml serve rollback --to 3f9c01[/bold]",
    )(rollback)
    app.command(epilog="Example: [bold]kuberml serve remove 3f9c...[/bold]")(remove)
    app.command(epilog="Example: [bold]kuberml serve readmit[/bold]")(readmit)


def history(folder: FolderOption = FOLDER, json: AsJson = False) -> None:
    """List every version that a running service has served, with how it did on the public probe; and what was refused."""
    from kuberml.serving.admin import ask

    found = asyncio.run(ask(folder, "history"))
    if json:
        json_out(found)
        return
    head = ["version", "manifest", "at", "labels", "A_T", "gap to joint", "why"]
    table_out(head, [_row(row) for row in found["versions"]])
    if lines := found["forgetting"]:
        table_out(["on", "of", "accuracy by version", "forgotten"], [_line(line) for line in lines])
    for card, why in found["refused"].items():
        say(f"refused {card[:SHORT]}: {why}")
    for author in found["kept_out"]["removed"]:
        say(f"removed {author[:SHORT]}: nothing of this author comes in until `kuberml serve readmit {author[:SHORT]}`")
    for one in found["kept_out"]["contents"]:
        say(f"kept out {one['content'][:SHORT]}, {one['slot']!r} of {one['author'][:SHORT]}: {one['why']}")
    for author, trust_ppm in found["witnesses"].items():
        say(f"{author[:SHORT]} has tried versions; its word counts {trust_ppm / 1e6:.0%}")


def _row(row: dict[str, Any]) -> list[str]:
    from datetime import UTC, datetime

    measures = row.get("measures") or {}
    at = datetime.fromtimestamp(row["at_ms"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    numbers = [_share(measures.get(name)) for name in ("accuracy", "gap_to_joint")]
    return [str(row["number"]), row["manifest"][:SHORT], at, str(len(row["labels"])), *numbers, row["why"]]


def _line(line: dict[str, Any]) -> list[str]:
    """Of the versions the last eight."""
    known = " ".join(_share(one) or "-" for one in line["accuracy"][-8:])
    name = line["name"] if line["of"] == "task" else line["name"][:SHORT]
    return [line["of"], name, known, _share(line["forgotten"])]


def _share(found: float | None) -> str:
    return "" if found is None else f"{found:.3f}"


def rollback(
    to: Annotated[str, typer.Option("--to", help="Manifest of a version (its beginning); default: the one before.")] = "",
    folder: FolderOption = FOLDER,
    json: AsJson = False,
) -> None:
    """Serve an earlier version again, at once. What came after it stays out until [bold]kuberml serve readmit[/bold]."""
    from kuberml.serving.admin import Rollback, ask

    _now(asyncio.run(ask(folder, "rollback", Rollback(to or None))), json=json)


def remove(
    author: Annotated[str, typer.Argument(help="Public key of the contributor, as /v1/origin tells it, or how that begins.")],
    folder: FolderOption = FOLDER,
    json: AsJson = False,
) -> None:
    """Forget a contributor: the model that never had its knowledge is served from now on."""
    from kuberml.serving.admin import Removal, ask

    _now(asyncio.run(ask(folder, "remove", Removal(author))), json=json)


def readmit(
    names: Annotated[
        list[str] | None, typer.Argument(help="Contents, authors or cards, or how they begin; none: all that was kept out.")
    ] = None,
    folder: FolderOption = FOLDER,
    json: AsJson = False,
) -> None:
    """Let in again what was rolled back, removed or refused: it is tried anew at the next look at the hub (half a minute)."""
    from kuberml.serving.admin import Readmission, ask

    found = asyncio.run(ask(folder, "readmit", Readmission(tuple(names or ()))))
    if json:
        json_out(found)
    else:
        say("what was kept out is tried anew at the next look at the hub; `kuberml serve history` shows what comes of it")


def _now(found: dict[str, Any], *, json: bool) -> None:
    if json:
        json_out(found)
    else:
        say(f"version {found['number']} answers now: model {found['model'][:SHORT]}, manifest {found['manifest'][:SHORT]}")
