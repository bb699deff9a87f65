"""`kuberml find`: a want, asked of a vault or of a hub."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kuberml.cli.at_hub import KeyOption, NameOption, RealmOption, TlsOption, ask, at_hub, wait_for
from kuberml.cli.output import json_out, say
from kuberml.cli.show import cards_out, row_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kuberml.knowledge.card import SignedCard
    from kuberml.knowledge.want import Offer, Want
    from kuberml.worlds.live.world import LiveWorld


EVERY = 1 << 30
"""Slots of an author and versions of a slot: a vault's owner has chosen what lies there."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: [bold]kuberml find my-vault digits --labels 3,7 --kinds statistics[/bold] ·"
        " [bold]kuberml find digits --labels 8 --hub 127.0.0.1:7447[/bold]"
    )(find)


def find(
    where: Annotated[list[str], typer.Argument(metavar="[VAULT] TASK", help="A vault folder, or --hub; and the task.")],
    *,
    hub: Annotated[
        str, typer.Option("--hub", help="host:port of a hub, in place of a vault; else $KUBERML_HUB, where none is named.")
    ] = "",
    name: NameOption = "",
    realm: RealmOption = "default",
    tls: TlsOption = "",
    key: KeyOption = None,
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
    """Find cards by need: which packages know what you lack, under terms that you can meet; a hub's best first."""
    from kuberml.core.errors import ConfigError
    from kuberml.knowledge.want import Want

    if len(where) == 1:
        hub = hub or os.environ.get("KUBERML_HUB", "")
    if len(where) != (1 if hub else 2):
        raise ConfigError(f"{' '.join(where)!r}: right are `kuberml find VAULT TASK` and `kuberml find TASK --hub HOST:PORT`")
    task = where[-1]
    want = Want(
        task=task,
        labels_ppm=weights_ppm(labels),
        kinds=tuple(_split(kinds)),
        purpose=purpose,
        licences=tuple(licence or ()),
        region=region,
        limit=limit,
    )
    if hub:
        me = {"name": name, "realm": realm, "tls": tls, "key": key}
        offers = wait_for(_offers(hub, me, _one_more(want)))
        offers_out(offers[:limit], hub, json=json, again=_again(hub, me, want))
        _say_if_more(len(offers), limit)
        return
    vault = Path(where[0])
    matching = _candidates(vault, _one_more(want))
    found = matching[:limit]
    _say_if_more(len(matching), limit)
    if json:
        json_out([row_of(signed) for signed in found])
    elif found:
        cards_out(found)
    else:
        say(f"nothing in {vault} answers this want; `kuberml show {vault}` lists what is there")


def _one_more(want: Want) -> Want:
    """The same, and one offer more: that shows whether there is more than is shown."""
    import msgspec

    return msgspec.structs.replace(want, limit=want.limit + 1)


def _say_if_more(found: int, limit: int) -> None:
    if found > limit:
        say(f"more match than these {limit}: narrow it with --labels or --kinds, or take more with --limit")


def _again(hub: str, me: dict[str, Any], want: Want) -> str:
    """The options with which `kuberml fetch` comes in as this command did, and meets the same terms; for a shell."""
    given = {"hub": hub, **me, "realm": "" if me["realm"] == "default" else me["realm"]}
    given |= {"purpose": want.purpose, "region": want.region}
    return " ".join(f"--{option} {shlex.quote(str(value))}" for option, value in given.items() if value)


def offers_out(offers: Sequence[Offer], hub: str, *, json: bool, again: str = "") -> None:
    """What a hub offers, to stdout. `again`: options of the `kuberml fetch` that brings it; default: the hub's address."""
    if json:
        json_out([{**row_of(offer.signed), "holders": offer.holders, "gain_ppm": offer.gain_ppm} for offer in offers])
    elif offers:
        cards_out([offer.signed for offer in offers])
        say(f"`kuberml fetch {again or f'--hub {hub}'} CARD` brings one")
    else:
        say(f"the hub at {hub} knows nothing that answers this want")


async def _offers(hub: str, me: dict[str, Any], want: Want) -> Sequence[Offer]:
    """What the hub offers; cards that are not what they say are left out."""
    from kuberml.core.errors import RemoteError
    from kuberml.knowledge.signing import check_card

    good = []
    async with at_hub(hub, **me) as world:
        for offer in await _asked(world, want):
            try:
                check_card(offer.signed)
                good.append(offer)
            except RemoteError as error:
                say(f"left out {offer.signed.digest[:12]}: {error}")
    return good


async def _asked(world: LiveWorld, want: Want) -> Sequence[Offer]:
    """What the hub names, best first: of a long list page after page, as many as are wanted."""
    from kuberml.exchange import wire
    from kuberml.exchange.broker import best_first
    from kuberml.exchange.paging import Pages

    if want.limit <= wire.OFFERED:
        return (await ask(world, "find", wire.write(wire.Query(want)), wire.Offers)).offers
    found: list[Offer] = []
    since, pages, is_more = 0, Pages(0, say), True
    while is_more:
        page = await ask(world, "find", wire.write(wire.Query(want, since)), wire.Offers)
        found += page.offers[: wire.OFFERED]
        since, is_more = page.upto, bool(page.offers) and pages.lead_on(page.upto)
    return best_first(found)[: want.limit]


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

    catalog = Catalog(slots_per_author=EVERY)
    with opened(vault) as store:
        for signed in signed_cards(store):
            try:
                catalog.add(signed, NodeId("vault"), keep=EVERY)
            except RemoteError as error:
                say(f"left out {signed.digest[:12]}: {error}")
    now_ms = time.time_ns() // 1_000_000  # terms expire by the clock of the one who asks
    return [signed for signed, _ in catalog.candidates(want, now_ms, limit=want.limit)]
