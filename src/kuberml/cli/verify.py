"""`kuberml verify`: is what lies in a vault what its cards say, and do their claims hold?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kuberml.cli.output import json_out, table_out

if TYPE_CHECKING:
    from kuberml.core.ids import Digest
    from kuberml.vault.folder import FolderStore

EXIT_REMOTE = 3


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: [bold]kuberml verify my-vault --claims[/bold]")(verify)


def verify(
    vault: Annotated[Path, typer.Argument(help="A vault folder.")],
    card: Annotated[str | None, typer.Argument(help="Only this card: the first characters of its digest.")] = None,
    claims: Annotated[bool, typer.Option("--claims", help="Run the claims again on the probes that are in the vault.")] = False,
    json: Annotated[bool, typer.Option("--json", help="As JSON on stdout.")] = False,
) -> None:
    """Check signatures, sizes, digests and content of every package in a vault; exit status 3 if one is not what it says."""
    from kuberml.cli.vaults import SHORT, opened, pick

    with opened(vault) as store:
        digests = [pick(store, card)] if card is not None else list(store.cards())
        rows = [_check(store, digest, claims) for digest in digests]
    if json:
        json_out(rows)
    else:
        table_out(("card", "kind", "verdict"), ((row["card"][:SHORT], row["kind"], row["verdict"]) for row in rows))
    if any(row["good"] != "yes" for row in rows):
        raise typer.Exit(EXIT_REMOTE)


def _check(store: FolderStore, digest: Digest, claims: bool) -> dict[str, str]:
    """One row: the card, its kind, whether it is good, and what was found."""
    from kuberml.cli.claims import check_claims
    from kuberml.cli.vaults import knowledge
    from kuberml.core.errors import InternalError, RemoteError
    from kuberml.knowledge.pack import open_value

    kind, good = "?", "no"
    try:
        found = knowledge(store, digest)
        kind = found.card.kind
        content = open_value(found)
        said = ["bytes and signature are right"]
        if claims:
            said += check_claims(store, found, content)
        verdict, good = "; ".join(said), "yes"
    except KeyError as missing:
        verdict = f"the blob {missing.args[0]} is not in the vault"
    except (RemoteError, InternalError) as error:
        verdict = str(error)
    return {"card": digest, "kind": kind, "good": good, "verdict": verdict}
