"""`kuberml hub`: the place where members meet, as a process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kuberml.cli.at_hub import LimitOption, RealmOption, TlsOption, limit_in
from kuberml.cli.keys import Policy
from kuberml.cli.output import json_out, say
from kuberml.core.ids import NodeId

if TYPE_CHECKING:
    from kuberml.knowledge.card import Card
    from kuberml.worlds.live.hub.process import HubProcess

LOOK_S = 0.5


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: [bold]kuberml hub[/bold] · [bold]kuberml hub --listen 0.0.0.0:7447 --http 0.0.0.0:7448[/bold]"
    )(hub)


def hub(
    *,
    listen: Annotated[
        str, typer.Option("--listen", help="host:port where members dial in; 0.0.0.0:7447 for a network.")
    ] = "127.0.0.1:7447",
    http: Annotated[str, typer.Option("--http", help="host:port of packages, the page and metrics.")] = "127.0.0.1:7448",
    advertise: Annotated[
        str | None, typer.Option("--advertise", help="URL under which members reach --http, if not http://HOST:PORT.")
    ] = None,
    folder: Annotated[Path, typer.Option("--folder", help="Where it keeps everything; made if missing.")] = Path("kuberml-hub"),
    realm: RealmOption = "default",
    policy: Annotated[
        Policy, typer.Option("--policy", help="Who may come into a realm that begins here: everybody, the known, the listed.")
    ] = Policy.open,
    tls: TlsOption = "",
    keep_bytes: Annotated[str, typer.Option("--keep-bytes", help="Copies that it keeps, oldest out first.")] = "10 GiB",
    limit: LimitOption = "",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not tell who comes and what is published.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Where it is, as JSON on stdout, once it is ready.")] = False,
) -> None:
    """Run a hub: members find each other and their packages here. It needs no configuration and sees nobody's data.

    It keeps a copy of what is published, so that members may leave. Killed and started again on its folder it goes on where
    it was. Without options only this machine can reach it. Who may do what is the business of [bold]kuberml keys[/bold].
    """
    from kuberml.core.units import parse_size_bytes
    from kuberml.worlds.live.entry import tls_in

    settings: dict[str, Any] = {
        "listen": listen,
        "http": http,
        "advertise_http": advertise,
        "realm": realm,
        "policy": policy.value,
        "tls": tls_in(tls),
        "keep_bytes": parse_size_bytes(keep_bytes),
        "limit_bytes_s": limit_in(limit),
    }
    asyncio.run(_serve(folder, settings, quiet=quiet, json=json))


async def _serve(folder: Path, settings: dict[str, Any], *, quiet: bool, json: bool) -> None:
    import signal

    from kuberml.worlds.live.hub.process import HubProcess

    async with HubProcess.open(folder, **settings) as running:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, running.stop)
        _ready(running, folder, settings["realm"], json=json)
        telling = None if quiet else loop.create_task(_tell(running), name="telling what goes on")
        await running.until_closed()
        if telling is not None:
            telling.cancel()
    if not quiet:
        say("the hub has stopped; `kuberml hub` goes on where it was")


def _ready(running: HubProcess, folder: Path, realm: str, *, json: bool) -> None:
    from kuberml.worlds.live.trust.realm import roll_in

    key, cards = running.transport.voice.key, sum(1 for _ in running.catalog.cards())
    policy = roll_in(folder).roll.policy
    if json:
        where = {"address": running.address, "http": running.http_url, "folder": str(folder)}
        json_out({**where, "realm": realm, "policy": policy, "key": key})
        return
    in_realm = "" if realm == "default" else f" --realm {realm}"
    in_realm += " --tls YOUR_CERTIFICATES" if running.address.startswith("tls/") else ""
    say(
        f"This is the hub of realm {realm!r}, policy {policy}, key {key[:12]}..., {cards} packages in {folder}/\n"
        f"  join it   kuberml join --hub {running.address}{in_realm} PROGRAM.py\n"
        f"  watch it  {running.http_url}\n"
        "Ctrl-C stops it."
    )


async def _tell(running: HubProcess) -> None:
    """Who comes and goes, and what is new, a line each."""
    here: set[NodeId] = set()
    known = {signed.digest for signed in running.catalog.cards()}
    while True:
        await asyncio.sleep(LOOK_S)
        now = set(running.transport.alive())
        for node in sorted(now - here):
            say(f"+ {node}")
        for node in sorted(here - now):
            say(f"- {node}")
        here = now
        for signed in running.catalog.cards():
            if signed.digest not in known:
                say(f"  {signed.digest[:12]}  {describe(signed.card)}, by {signed.card.author[:12]}...")
                known.add(signed.digest)


def describe(card: Card) -> str:
    """What a package is, in a few words."""
    from kuberml.core.units import plain, show_bytes

    of = f" of {', '.join(card.labels)}" if card.labels else ""
    return plain(f"{card.kind}{of} for {card.task}, {show_bytes(card.size_bytes)}")
