"""`kuberml mirror`: a vault's blobs and cards to where a web server or a bucket gives them out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kuberml.cli.output import json_out, say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: [bold]kuberml mirror my-vault /srv/www/kuberml[/bold] ·"
        " [bold]kuberml mirror my-vault s3://bucket/prefix[/bold]"
    )(mirror)


def mirror(
    vault: Annotated[Path, typer.Argument(help="A vault folder.")],
    target: Annotated[str, typer.Argument(help="A folder, or s3://bucket/prefix (credentials: AWS_... variables).")],
    *,
    json: Annotated[bool, typer.Option("--json", help="As JSON on stdout.")] = False,
) -> None:
    """Copy a vault to a dumb mirror. Readers verify every piece, so the mirror need not be trusted."""
    from kuberml.cli.vaults import opened
    from kuberml.worlds.live.blobs.mirror import mirror as copy
    from kuberml.worlds.live.blobs.mirror import place_at

    place = place_at(target)
    with opened(vault) as store:
        copied = copy(store, place, lambda path, size_bytes: say(f"{path[:20]}...  {size_bytes} bytes"))
    if json:
        json_out({"target": target, **copied._asdict()})
    else:
        say(f"{target}: {copied.new} new ({copied.new_bytes} bytes), {copied.known} were there")
