"""`kuberml publish`: hand a package to a hub, from a file of tensors or from a vault."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kuberml.cli.at_hub import (
    HubOption,
    KeyOption,
    LimitOption,
    NameOption,
    RealmOption,
    TlsOption,
    at_hub,
    limit_in,
    wait_for,
)
from kuberml.cli.output import json_out, say
from kuberml.core.errors import ConfigError, RemoteError, Unreachable

if TYPE_CHECKING:
    from kuberml.cli.moving import Watch
    from kuberml.cli.packing import Wish
    from kuberml.knowledge.card import SignedCard
    from kuberml.worlds.live.world import LiveWorld

ME = "me"
"""What a name begins with that nobody chose, with me.key and me.vault."""

ANNOUNCE_S = 30.0
KEEP_S = 30.0
"""Patience with one question; a hub that is still fetching is asked again."""
LOOK_S = 0.2

TermOption = Annotated[list[str] | None, typer.Option("--for", help="Others may use it for this only; repeatable.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: [bold]kuberml publish model.safetensors --task digits --labels 3=120,8=80[/bold] ·"
        " [bold]kuberml publish my-vault 3f9c01[/bold]"
    )(publish)


def publish(
    what: Annotated[list[str], typer.Argument(metavar="FILE | VAULT CARD", help="A .safetensors file, or a card of a vault.")],
    *,
    hub: HubOption = "127.0.0.1:7447",
    task: Annotated[str, typer.Option("--task", help="Of a file: what it is about, for instance digits.")] = "",
    labels: Annotated[str, typer.Option("--labels", help="Of a file: samples behind each label, as in 3=120,8=80.")] = "",
    slot: Annotated[str, typer.Option("--slot", help="Of a file: it replaces what you published so. Default: its name.")] = "",
    licence: Annotated[str, typer.Option("--licence", help="Of a file: under which licence.")] = "",
    purposes: TermOption = None,
    name: NameOption = "",
    key: KeyOption = None,
    stay: Annotated[bool, typer.Option("--stay", help="Go on serving it until Ctrl-C.")] = False,
    realm: RealmOption = "default",
    tls: TlsOption = "",
    limit: LimitOption = "",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    json: Annotated[bool, typer.Option("--json", help="What was published, as JSON on stdout.")] = False,
) -> None:
    """Publish a package at a hub. It returns when the hub has a copy of it: then you may leave.

    A file becomes a package of kind weights, signed with your key (me.key, or NAME.key); a copy of it stays in me.vault. It may
    be larger than memory. A card of a vault is published as it was signed, whoever signed it.
    """
    from kuberml.cli.packing import Wish

    me: dict[str, Any] = {"name": name, "key": key, "realm": realm, "tls": tls, "limit_bytes_s": limit_in(limit)}
    if len(what) == 2:
        vault, signed = Path(what[0]), _card_in(Path(what[0]), what[1])
    elif len(what) == 1 and task:
        wish = Wish(Path(what[0]), task, labels, slot, licence, tuple(purposes or ()))
        vault, signed = _packed(wish, me, quiet=quiet or json)
    else:
        right = "`kuberml publish FILE.safetensors --task TASK --labels 3=120` or `kuberml publish VAULT CARD`"
        raise ConfigError(f"{' '.join(what)!r}: right is {right}")
    wait_for(_publish(hub, vault, signed, me, stay=stay, quiet=quiet or json))
    if json:
        from kuberml.cli.show import row_of

        json_out(row_of(signed))


def _card_in(vault: Path, start: str) -> SignedCard:
    from kuberml.cli.vaults import opened, pick
    from kuberml.knowledge.card import decode_card
    from kuberml.knowledge.signing import check_card

    with opened(vault) as store:
        signed = check_card(decode_card(store.card(pick(store, start))))
        missing = [ref.digest[:12] for ref in signed.card.blobs if store.size_bytes(ref.digest) is None]
    if missing:
        raise ConfigError(f"{vault} has the card {signed.digest[:12]}, but not its blobs {', '.join(missing)}")
    return signed


def _packed(wish: Wish, me: dict[str, Any], *, quiet: bool) -> tuple[Path, SignedCard]:
    """A file as a package in one's own vault."""
    from kuberml.cli.packing import check, pack_file
    from kuberml.worlds.member.naming import known_as

    check(wish)
    who = known_as(me["name"], key=me["key"], stem=ME)
    if not quiet:
        say(f"reading {wish.file} ...")
    return who.vault, pack_file(wish, who.vault, who.keys)


async def _publish(hub: str, vault: Path, signed: SignedCard, me: dict[str, Any], *, stay: bool, quiet: bool) -> None:
    from kuberml.cli.moving import moving

    async with at_hub(hub, vault=vault, stem=ME, **me) as world:
        with moving(f"{signed.digest[:12]} to the hub", signed.card.size_bytes, quiet=quiet) as watch:
            looking = asyncio.get_running_loop().create_task(_look(world, signed, watch))
            try:
                why = await hand_over(world, signed)
            finally:
                looking.cancel()
            _watch(world, signed, watch)
        card = f"{signed.digest[:12]} ({signed.card.kind} for {signed.card.task})"
        say(f"published {card}; the hub has a copy" if not why else f"published {card}; the hub keeps no copy: {why}")
        if stay or why:
            say(f"serving {signed.digest[:12]} as {world.transport.node}; Ctrl-C leaves")
            await asyncio.Event().wait()


async def _look(world: LiveWorld, signed: SignedCard, watch: Watch) -> None:
    while True:
        _watch(world, signed, watch)
        await asyncio.sleep(LOOK_S)


def _watch(world: LiveWorld, signed: SignedCard, watch: Watch) -> None:
    """Tell how much others have read here."""
    from kuberml.exchange.delivery import Progress

    sent_bytes = min(world.transport.sent_bytes, signed.card.size_bytes)
    watch(Progress(signed.digest, sent_bytes, signed.card.size_bytes, {world.transport.node: sent_bytes}))


async def hand_over(world: LiveWorld, signed: SignedCard) -> str:
    """Tell the hub of a package, and wait until it has a copy; or why it keeps none.

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
            continue  # it is still fetching, or away for a moment
        except RemoteError as error:
            return str(error)
        return ""
