"""`kuberml show`: a run folder, a vault, or one card of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kuberml.cli.output import console, factors_out, json_out, table_out

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kuberml.knowledge.card import SignedCard

_EMPTY: tuple[object, ...] = (None, "", [], {})


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Examples: [bold]kuberml show runs/demo[/bold] · [bold]kuberml show my-vault 3f9c[/bold]")(show)


def show(
    path: Annotated[Path, typer.Argument(help="A run folder or a vault folder.")],
    card: Annotated[str | None, typer.Argument(help="In a vault: the first characters of a card's digest.")] = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON on stdout.")] = False,
) -> None:
    """Show what is in a folder: the result of a run, the cards of a vault, or everything that one card says."""
    from kuberml.cli.vaults import is_vault, opened, pick, signed_cards
    from kuberml.core.errors import ConfigError
    from kuberml.knowledge.card import decode_card
    from kuberml.scenario.result_files import RESULT_FILE

    if is_vault(path):
        with opened(path) as store:
            if card is None:
                _cards(signed_cards(store), json)
            else:
                _card(decode_card(store.card(pick(store, card))), json)
    elif (path / RESULT_FILE).exists():
        _result(path, json)
    else:
        raise ConfigError(f"{path} is neither a run folder (no {RESULT_FILE}) nor a vault (no index.sqlite)")


def row_of(signed: SignedCard) -> dict[str, object]:
    """What a list of cards says of one, plain values."""
    card = signed.card
    return {
        "digest": signed.digest,
        "kind": card.kind,
        "task": card.task,
        "labels": card.labels,
        "slot": card.slot,
        "version": card.version,
        "size_bytes": card.size_bytes,
        "author": card.author,
    }


def cards_out(cards: Iterable[SignedCard]) -> None:
    """A list of cards as a table to stdout."""
    from kuberml.cli.vaults import SHORT
    from kuberml.core.units import show_bytes

    rows = (
        (
            signed.digest[:SHORT],
            signed.card.kind,
            signed.card.task,
            ", ".join(f"{label} ({count})" for label, count in signed.card.labels.items()) or "–",
            f"{signed.card.slot} v{signed.card.version}",
            show_bytes(signed.card.size_bytes),
            signed.card.author[:SHORT],
        )
        for signed in cards
    )
    table_out(("card", "kind", "task", "labels (samples)", "slot", "size", "author"), rows)


def _cards(cards: Iterable[SignedCard], json: bool) -> None:
    if json:
        json_out([row_of(signed) for signed in cards])
    else:
        cards_out(cards)


def _card(signed: SignedCard, json: bool) -> None:
    import msgspec

    tree = msgspec.to_builtins(signed.card)
    for blob in tree["blobs"]:
        blob["pieces"] = len(blob.pop("cuts"))
    whole = {"digest": signed.digest, **tree}
    if json:
        json_out(whole)
    else:
        table_out(("field", "value"), ([name, item] for name, item in whole.items() if item not in _EMPTY))


def _result(path: Path, json: bool) -> None:
    from kuberml.scenario.result_files import read_result
    from kuberml.scenario.sentence import ties

    result = read_result(path)
    if json:
        json_out(result)
        return
    factors_out(result.paradigms, result.target, result.failed)
    if words := ties(result.ranking):
        console().print(words, markup=False)
    console().print(result.sentence, markup=False)
