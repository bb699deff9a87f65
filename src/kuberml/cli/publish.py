"""`kuberml publish`: hand a package to a hub, from a vault or from a file of tensors."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kuberml.cli.at_hub import HubOption, LimitOption, NameOption, RealmOption, TlsOption, at_hub, limit_in, wait_for
from kuberml.cli.output import json_out, say
from kuberml.core.errors import ConfigError, RemoteError, Unreachable

if TYPE_CHECKING:
    from kuberml.knowledge.card import SignedCard
    from kuberml.worlds.live.world import LiveWorld

ME = "me"
"""What a name begins with that nobody chose, and the key's file: me.key."""

ANNOUNCE_S = 30.0
KEEP_S = 30.0
"""Patience with one question; a hub that is still fetching is asked again."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: [bold]kuberml publish my-vault 3f9c01[/bold] ·"
        " [bold]kuberml publish model.safetensors --task digits --labels 3=120,8=80[/bold]"
    )(publish)


def publish(
    what: Annotated[list[str], typer.Argument(metavar="FILE | VAULT CARD", help="A .safetensors file, or a card of a vault.")],
    *,
    hub: HubOption = "127.0.0.1:7447",
    name: NameOption = "",
    key: Annotated[
        Path | None, typer.Option("--key", help="File of your secret key; default NAME.key, drawn at first use.")
    ] = None,
    stay: Annotated[bool, typer.Option("--stay", help="Go on serving it until Ctrl-C.")] = False,
    realm: RealmOption = "default",
    tls: TlsOption = "",
    limit: LimitOption = "",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    json: Annotated[bool, typer.Option("--json", help="What was published, as JSON on stdout.")] = False,
) -> None:
    """Publish a package at a hub. It returns when the hub has a copy of it: then you may leave.

    A card of a vault is published as it was signed, whoever signed it.
    """
    if len(what) != 2:
        raise ConfigError(f"{' '.join(what)!r}: right is `kuberml publish VAULT CARD`")
    me = {"name": name, "key": key, "realm": realm, "tls": tls, "limit_bytes_s": limit_in(limit)}
    signed = wait_for(_publish(hub, Path(what[0]), what[1], me, stay=stay, quiet=quiet or json))
    if json:
        from kuberml.cli.show import row_of

        json_out(row_of(signed))


async def _publish(hub: str, vault: Path, start: str, me: dict[str, Any], *, stay: bool, quiet: bool) -> SignedCard:
    from kuberml.cli.vaults import opened, pick
    from kuberml.knowledge.card import decode_card
    from kuberml.knowledge.signing import check_card

    with opened(vault) as store:
        signed = check_card(decode_card(store.card(pick(store, start))))
        missing = [ref.digest[:12] for ref in signed.card.blobs if store.size_bytes(ref.digest) is None]
    if missing:
        raise ConfigError(f"{vault} has the card {signed.digest[:12]}, but not its blobs {', '.join(missing)}")
    async with at_hub(hub, vault=vault, stem=ME, **me) as world:
        kept = await hand_over(world, signed, quiet=quiet)
        if stay or not kept:
            if not quiet:
                say(f"serving {signed.digest[:12]} as {world.transport.node}; Ctrl-C leaves")
            await asyncio.Event().wait()
    return signed


async def hand_over(world: LiveWorld, signed: SignedCard, *, quiet: bool) -> bool:
    """Tell the hub of a package, and wait until it has a copy; False: it keeps none.

    Raises:
        RemoteError: it refuses the package, and says why.
    """
    from kuberml.exchange import wire

    said = wire.write(wire.Announcement(signed, world.transport.node))
    await world.transport.ask(world.hub, "announce", said, timeout_s=ANNOUNCE_S)
    while True:
        try:
            await world.transport.ask(world.hub, "keep", signed.digest.encode(), timeout_s=KEEP_S)
        except Unreachable:
            if not quiet:
                say(f"{signed.digest[:12]}: the hub is fetching it ...")
            continue
        except RemoteError as error:
            say(f"the hub keeps no copy of {signed.digest[:12]}: {error}")
            return False
        if not quiet:
            say(f"published {signed.digest[:12]} ({signed.card.kind} for {signed.card.task}); the hub has a copy")
        return True
