"""A command's short visit to a hub: `find`, `fetch`, `publish` and `forget` share it. It never imports torch."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import tempfile
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from kuberml.cli.output import say
from kuberml.core.errors import ConfigError, RemoteError, Unreachable

if TYPE_CHECKING:
    from kuberml.knowledge.want import Offer
    from kuberml.worlds.live.world import LiveWorld

T = TypeVar("T")

PATIENCE_S = 5.0
ASK_S = 30.0
LOOK_S = 0.2
"""Between looks whether the hub is still there."""
KEY_BYTES = 32
STOPPED = 130
ADMIT = "kuberml keys admit"
"""Is in a refusal that the owner of the realm can change."""
START = 4
"""Characters of a digest that name a card at least."""

HubOption = Annotated[str, typer.Option("--hub", envvar="KUBERML_HUB", help="host:port of the hub; several with commas.")]
RealmOption = Annotated[str, typer.Option("--realm", envvar="KUBERML_REALM", help="The hub's realm.")]
TlsOption = Annotated[
    str, typer.Option("--tls", envvar="KUBERML_TLS", help="Folder with your certificates, of `kuberml keys certify`.")
]
NameOption = Annotated[
    str, typer.Option("--name", help="Your name there, where a realm lists you; also NAME.key. Default: made from the key.")
]
LimitOption = Annotated[str, typer.Option("--limit", help='Bandwidth for packages, a second, as "20 MB". Empty: none.')]
KeyOption = Annotated[
    Path | None, typer.Option("--key", help="Your secret key: a file, drawn at first use, or its name in your keyring.")
]


@contextlib.asynccontextmanager
async def at_hub(
    address: str,
    *,
    realm: str = "default",
    tls: str = "",
    name: str = "",
    stem: str = "",
    key: Path | None = None,
    vault: Path | None = None,
    mirrors: tuple[str, ...] = (),
    limit_bytes_s: int | None = None,
) -> AsyncIterator[LiveWorld]:
    """Be at a hub until the end of the block.

    Args:
        address: of the hub.
        realm: its realm.
        tls: folder with certificates; "": none.
        name: who one is there, with `NAME.key`.
        stem: what a name that is made from the key begins with, with `STEM.key`.
        key: file of the secret key; without it, and name and stem, one is nobody in particular, with keys that are thrown away.
        vault: folder for what is published and fetched; None: one that is thrown away.
        mirrors, limit_bytes_s: see `LiveWorld.open`.

    Raises:
        ConfigError: an address that cannot be.
        Unreachable: no hub answers.
        RemoteError: it does not let this key in.
    """
    from kuberml.knowledge.signing import Keys
    from kuberml.worlds.live.entry import advice, tls_in, trust_for
    from kuberml.worlds.live.names import endpoints
    from kuberml.worlds.live.world import LiveWorld
    from kuberml.worlds.member.naming import known_as

    endpoints(address)  # a missing port is said now, not after PATIENCE_S
    with contextlib.ExitStack() as leaving:
        is_nobody = not (name or stem or key is not None)
        if not is_nobody:
            me = known_as(name, key=key, stem=stem or "visitor")
            node, keys = str(me.node), me.keys
        else:
            keys = Keys(secrets.token_bytes(KEY_BYTES))
            node = f"visitor-{keys.public[:12]}"
        folder = vault or Path(leaving.enter_context(tempfile.TemporaryDirectory(prefix="kuberml-")))
        opening = LiveWorld.open(
            address, node=node, role="visitor", keys=keys, vault=folder, realm=realm, trust=trust_for(realm), tls=tls_in(tls),
            mirrors=mirrors, limit_bytes_s=limit_bytes_s,
        )  # fmt: skip
        async with opening as world:
            try:
                await world.enter(PATIENCE_S)
            except Unreachable as error:
                raise Unreachable(f"{address}: {error}; {advice(address, tls_in(tls))}") from error
            except RemoteError as error:
                if not is_nobody:
                    raise
                raise _of_nobody(error) from error
            try:
                yield world
            except RemoteError as error:  # a realm of the known lets everybody in, and only then refuses
                if is_nobody and ADMIT in str(error):
                    raise _of_nobody(error) from error
                raise


def _of_nobody(error: RemoteError) -> RemoteError:
    """What was refused to a key that nobody can admit: it is gone after this visit."""
    return RemoteError(f"{error}. That key was drawn for this visit only: give --key and --name")


def limit_in(text: str) -> int | None:
    """Bytes a second; None: no limit. Raises ConfigError: not a size."""
    from kuberml.core.units import parse_size_bytes

    return parse_size_bytes(text) if text else None


async def ask(world: LiveWorld, name: str, body: bytes, sort: type[T]) -> T:
    """The hub's answer to a question. Raises Unreachable, RemoteError: as the seam says."""
    from kuberml.exchange import wire

    return wire.read(await world.transport.ask(world.hub, name, body, timeout_s=ASK_S), sort)


@contextlib.asynccontextmanager
async def telling_if_away(world: LiveWorld, address: str, *, quiet: bool) -> AsyncIterator[None]:
    """Until the end of the block, say so when the hub goes away and when it is back."""
    looking = None if quiet else asyncio.create_task(_look(world, address))
    try:
        yield
    finally:
        if looking is not None:
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking


async def _look(world: LiveWorld, address: str) -> None:
    was_here, patience_s = True, world.transport.reading.patience_s
    while True:
        await asyncio.sleep(LOOK_S)
        is_here = world.transport.here.find(world.hub) is not None
        if was_here and not is_here:
            say(
                f"the hub at {address} is away: waiting for it, and reading from whoever else holds this;"
                f" {patience_s:g} s without a byte end it, and what came stays"
            )
        elif is_here and not was_here:
            say(f"the hub at {address} is back")
        was_here = is_here


async def one_card(world: LiveWorld, start: str) -> Offer:
    """The one card that begins with `start`, and who holds it.

    Raises:
        ConfigError: none does, or several, or too few characters.
    """
    from kuberml.exchange import wire
    from kuberml.knowledge.signing import check_card

    if len(start) < START or not set(start) <= set("0123456789abcdef"):
        raise ConfigError(f"a card is named by the first characters of its digest, {START} at least, not {start!r}")
    found = (await ask(world, "cards", wire.write(wire.Named(start)), wire.Offers)).offers
    if len(found) != 1:
        raise ConfigError(f"{len(found) or 'no'} cards begin with {start!r}: `kuberml find --hub ...` lists what there is")
    offer = found[0]
    check_card(offer.signed)
    if not offer.signed.digest.startswith(start):
        raise RemoteError(f"the hub answers {offer.signed.digest[:12]} where {start!r} was asked for")
    return offer


def wait_for(work: Coroutine[Any, Any, T], *, if_stopped: str = "stopped") -> T:
    """Run a visit. Ctrl-C leaves in order (`asyncio.run` cancels it first), says `if_stopped`, ends as stopped ones do."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        say(if_stopped)
        raise typer.Exit(STOPPED) from None
