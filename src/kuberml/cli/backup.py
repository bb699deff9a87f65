"""`kuberml backup` and `kuberml restore`: a hub's folder, or a vault, saved while it is in use, and brought back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kuberml.cli.output import json_out, say

if TYPE_CHECKING:
    from kuberml.worlds.live.hub.backup import Summary


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: [bold]kuberml backup kuberml-hub /backups/hub-2026-11-21[/bold]")(backup)
    app.command(epilog="Example: [bold]kuberml restore /backups/hub-2026-11-21 kuberml-hub[/bold]")(restore)


def backup(
    folder: Annotated[Path, typer.Argument(help="A hub's folder, or a vault. It may be in use.")],
    target: Annotated[Path, typer.Argument(help="Where to; a folder that is not there yet.")],
    *,
    copy: Annotated[bool, typer.Option("--copy", help="Copy packages even where they could be linked (same disk).")] = False,
    json: Annotated[bool, typer.Option("--json", help="As JSON on stdout.")] = False,
) -> None:
    """Save a hub while it serves: its catalog, verdicts, copies of packages, ledger, roll and [bold]secret keys[/bold].

    The backup appears when it is complete. Packages are linked, not copied, where it lies on the same file system.
    """
    from kuberml.worlds.live.hub.backup import backup as save

    _tell(save(folder, target, copy=copy), f"saved {folder} in {target}", json=json)


def restore(
    source: Annotated[Path, typer.Argument(help="What `kuberml backup` made.")],
    folder: Annotated[Path, typer.Argument(help="Where to; a folder that is not there yet.")],
    *,
    salvage: Annotated[bool, typer.Option("--salvage", help="Leave out what is damaged instead of refusing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="As JSON on stdout.")] = False,
) -> None:
    """Bring a backup back, every byte checked. Start the hub on the folder afterwards: it goes on from there."""
    from kuberml.worlds.live.hub.backup import restore as bring_back

    _tell(bring_back(source, folder, salvage=salvage), f"restored {folder} from {source}", json=json)


def _tell(done: Summary, what: str, *, json: bool) -> None:
    from kuberml.core.units import show_bytes

    if json:
        json_out({name: getattr(done, name) for name in done.__struct_fields__})
        return
    links = f", {done.linked} of them linked" if done.linked else ""
    say(f"{what}: {done.cards} cards, {done.blobs} blobs ({show_bytes(done.blob_bytes)}{links}), {done.files} other files")
    if done.left_out:
        say(f"{done.left_out} cards were left out: their blobs were gone or damaged")
