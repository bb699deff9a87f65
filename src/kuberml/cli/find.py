"""`kuberml find`: a want, asked of a vault."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kuberml.cli.output import json_out, say
from kuberml.cli.show import cards_out, row_of

if TYPE_CHECKING:
    from kuberml.knowledge.card import SignedCard
    from kuberml.knowledge.want import Want


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: [bold]kuberml find my-vault digits --labels 3,7 --kinds statistics[/bold]")(find)


def find(
    vault: Annotated[Path, typer.Argument(help="A vault folder.")],
    task: Annotated[str, typer.Argument(help="What the knowledge is about, for instance digits.")],
    *,
    labels: Annotated[str, typer.Option("--labels", help="Wanted labels with commas; weights as 3=0.5. Empty: any.")] = "",
    kinds: Annotated[str, typer.Option("--kinds", help="Kinds you can use, with commas. Empty: any.")] = "",
    purpose: Annotated[str, typer.Option("--purpose", help="What it is for; terms may ask for it.")] = "",
    licence: Annotated[
        list[str] | None, typer.Option("--licence", help="A licence that you accept; repeatable. None: any.")
    ] = None,
    region: Annotated[str, typer.Option("--region", help="Where you are; terms may ask for it.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Cards at most.")] = 32,
    json: Annotated[bool, typer.Option("--json", help="As JSON on stdout.")] = False,
) -> None:
    """Find cards by need: which packages in a vault know what you lack, under terms that you can meet."""
    from kuberml.knowledge.want import Want

    want = Want(
        task=task,
        labels_ppm=weights_ppm(labels),
        kinds=tuple(_split(kinds)),
        purpose=purpose,
        licences=tuple(licence or ()),
        region=region,
        limit=limit,
    )
    found = _candidates(vault, want)
    if json:
        json_out([row_of(signed) for signed in found])
    elif found:
        cards_out(found)
    else:
        say(f"nothing in {vault} answers this want; `kuberml show {vault}` lists what is there")


def weights_ppm(text: str) -> dict[str, int]:
    """Labels with weights in parts per million, from "3,7" or "3=0.5,7=1".

    Raises:
        ConfigError: a weight is not a number over 0 and at most 1.
    """
    from kuberml.core.errors import ConfigError
    from kuberml.knowledge.card import PPM

    weights: dict[str, int] = {}
    for part in _split(text):
        label, _, weight = part.partition("=")
        try:
            share = float(weight or 1)
        except ValueError:
            share = -1.0
        if not 0 < share <= 1:
            raise ConfigError(f"--labels {part}: a weight is a number over 0 and at most 1, as in 3=0.5")
        weights[label.strip()] = round(share * PPM)
    return weights


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _candidates(vault: Path, want: Want) -> list[SignedCard]:
    """The cards of a vault that answer a want, in the catalog's order. Cards that are not what they say are left out."""
    import time

    from kuberml.cli.vaults import opened, signed_cards
    from kuberml.core.errors import RemoteError
    from kuberml.core.ids import NodeId
    from kuberml.vault.catalog import Catalog

    catalog = Catalog()
    with opened(vault) as store:
        for signed in signed_cards(store):
            try:
                catalog.add(signed, NodeId("vault"), keep=1 << 30)
            except RemoteError as error:
                say(f"left out {signed.digest[:12]}: {error}")
    now_ms = time.time_ns() // 1_000_000  # terms expire by the clock of the one who asks
    return [signed for signed, _ in catalog.candidates(want, now_ms, limit=want.limit)]
