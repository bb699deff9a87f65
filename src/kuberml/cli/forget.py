"""`kuberml forget`: take back what one has published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kuberml.cli.at_hub import HubOption, NameOption, RealmOption, TlsOption, at_hub, one_card, wait_for
from kuberml.cli.output import json_out, say
from kuberml.core.errors import ConfigError

if TYPE_CHECKING:
    from kuberml.knowledge.withdrawal import Withdrawal


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: [bold]kuberml forget 3f9c01 --hub 127.0.0.1:7447 --key me.key[/bold]")(forget)


def forget(
    card: Annotated[str, typer.Argument(help="The first characters of its digest, as `kuberml find` shows it.")],
    *,
    hub: HubOption = "127.0.0.1:7447",
    key: Annotated[
        Path, typer.Option("--key", help="File of the secret key that published it, or a key of your keyring.")
    ] = Path("me.key"),
    name: NameOption = "",
    realm: RealmOption = "default",
    tls: TlsOption = "",
    json: Annotated[bool, typer.Option("--json", help="As JSON on stdout.")] = False,
) -> None:
    """Take back a package that you published, with all versions before it, for good: the hub offers it no more.

    The withdrawal is signed, so only its author can. Whoever has absorbed it is told, and asked to forget it; that cannot be
    forced.
    """
    word = wait_for(_forget(card, hub, key, {"name": name, "realm": realm, "tls": tls}))
    if json:
        json_out(word)
    else:
        say(f"{word.slot!r} of {word.task!r} is taken back up to version {word.version}; the hub at {hub} offers it no more")


async def _forget(start: str, hub: str, key: Path, me: dict[str, Any]) -> Withdrawal:
    from kuberml.exchange import wire
    from kuberml.knowledge.withdrawal import Withdrawal, sign_withdrawal
    from kuberml.worlds.member.keyfile import keys_in
    from kuberml.worlds.member.naming import key_file

    file = key_file(key)
    if not file.is_file():
        raise ConfigError(f"there is no key {key}: give with --key the file of the key that published it")
    async with at_hub(hub, key=file, **me) as world:
        card = (await one_card(world, start)).signed.card
        keys = keys_in(file)
        if card.author != keys.public:
            raise ConfigError(f"{card.digest[:12]} is by {card.author[:12]}..., and {key} is the key of {keys.public[:12]}...")
        word = Withdrawal(card.author, card.task, card.slot, card.version)
        said = wire.write(sign_withdrawal(word, keys))
        await world.transport.ask(world.hub, "withdraw", said, timeout_s=30.0)
        return word
