"""`kuberml serve`: answer queries by a model that the members of a hub keep fresh."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kuberml.cli import operating
from kuberml.cli.at_hub import STOPPED, KeyOption, RealmOption, TlsOption
from kuberml.cli.operating import FOLDER, SHORT, FolderOption
from kuberml.cli.output import json_out, say

if TYPE_CHECKING:
    from kuberml.serving.http.slot import Live
    from kuberml.serving.live import Serving

LOOK_IN_FOLDER_S = 1.0
"""How often a shared folder is looked at: nobody tells there what another process has put into it."""
PATIENCE_S = 5.0
"""With members that try a version: nothing is taken in meanwhile."""

app = typer.Typer(
    name="serve",
    invoke_without_command=True,
    no_args_is_help=True,
    help=(
        "Answer queries over HTTP by a model that edges keep fresh: what they publish at the hub is tried, taken in, and served"
        " without a pause.\n\nIt needs nobody's data. When the hub is away it goes on answering; started again on its folder"
        " it serves what it served. `/openapi.json` describes the service, `/v1/origin` says who taught a label."
    ),
    epilog="Examples: [bold]kuberml serve --hub 127.0.0.1:7447 --task digits[/bold] · [bold]kuberml serve history[/bold] ·"
    " [bold]kuberml serve rollback[/bold]",
)


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    app.callback()(serve)
    operating.register(app)
    parent.add_typer(app)


def serve(
    context: typer.Context,
    *,
    hub: Annotated[
        str, typer.Option("--hub", envvar="KUBERML_HUB", help="host:port of the hub, or a shared folder.")
    ] = "127.0.0.1:7447",
    task: Annotated[str, typer.Option("--task", help="What the model is about, for instance digits.")] = "",
    http: Annotated[
        str, typer.Option("--http", help="host:port where queries are answered; port 0: a free one.")
    ] = "127.0.0.1:8080",
    folder: FolderOption = FOLDER,
    name: Annotated[str, typer.Option("--name", help="Who it is at the hub. Default: made from its key.")] = "",
    key: KeyOption = None,
    realm: RealmOption = "default",
    tls: TlsOption = "",
    https: Annotated[
        str, typer.Option("--https", help="Answer over HTTPS: files CERTIFICATE,KEY in PEM. Empty: plain HTTP.")
    ] = "",
    engine: Annotated[
        str, typer.Option("--engine", help="What computes answers; auto: the fastest that is proven here (`kuberml doctor`).")
    ] = "auto",
    precision: Annotated[
        str, typer.Option("--precision", help="fp32, bf16, int8; auto: what stays within the bound.")
    ] = "auto",
    max_rows: Annotated[int, typer.Option("--max-rows", min=1, max=65536, help="Rows in one request.")] = 256,
    max_batch: Annotated[int, typer.Option("--max-batch", min=1, max=65536, help="Rows that an engine gets at once.")] = 64,
    max_wait_s: Annotated[
        float, typer.Option("--max-wait", min=0.001, help="Seconds that a request may wait; beyond it is told 429 at once.")
    ] = 0.25,
    threads: Annotated[int, typer.Option("--threads", min=1, max=256, help="Engines at work at a time.")] = 1,
    bound: Annotated[
        float, typer.Option("--bound", min=0, max=1, help="Share of right answers on a label that an update may cost.")
    ] = 0.1,
    protect: Annotated[str, typer.Option("--protect", help="Labels that must not be lost, with commas. Empty: all.")] = "",
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Have members that `examine` try each version; what they find worse goes.")
    ] = False,
    witnesses: Annotated[
        int, typer.Option("--witnesses", min=1, help="Members of some standing who must have tried it, before a version goes.")
    ] = 2,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not tell of each new version.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Where it is, as JSON on stdout, once it listens.")] = False,
) -> None:
    """See `app`: the text of `--help`."""
    if context.invoked_subcommand is not None:
        return
    import os

    from kuberml.core.errors import ConfigError
    from kuberml.exchange.continual.rules import Rules
    from kuberml.serving.service import Settings
    from kuberml.worlds.live.http import listening
    from kuberml.worlds.member.meeting import where_to

    if not task:
        raise ConfigError("--task is missing: what is the model about? The members at the hub name it, for instance digits")
    where = where_to(hub)
    os.environ.update(KUBERML_REALM=realm, KUBERML_TLS=tls)
    protected = tuple(part.strip() for part in protect.split(",") if part.strip())
    options: dict[str, Any] = {
        "task": task,
        "http": listening(http),
        "folder": folder,
        "name": name,
        "key": key,
        "https": https_in(https),
        "rules": Rules(bound=bound, protected=protected, every_s=LOOK_IN_FOLDER_S if isinstance(where, Path) else 30.0,
                       evaluate=evaluate, witnesses=witnesses, patience_s=PATIENCE_S),
        "settings": Settings(engine=engine, precision=precision, max_rows=max_rows, max_batch=max_batch, max_wait_s=max_wait_s,
                             threads=threads),
    }  # fmt: skip
    try:
        asyncio.run(_serve(hub, options, quiet=quiet, json=json))
    except asyncio.CancelledError:
        say("stopped before it served anything")
        raise typer.Exit(STOPPED) from None


def https_in(text: str) -> Any:
    """A server's TLS context of "CERTIFICATE,KEY"; None: none is wanted. Raises ConfigError: files that are none."""
    if not text:
        return None
    import ssl

    from kuberml.core.errors import ConfigError

    certificate, _, secret = text.partition(",")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, secret or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"--https {text}: not a certificate and its key in PEM, with a comma between: {error}") from error
    return context


async def _serve(hub: str, options: dict[str, Any], *, quiet: bool, json: bool) -> None:
    import logging
    import signal

    from kuberml.serving.admin import Admin
    from kuberml.serving.live import Serving
    from kuberml.worlds.member.meeting import is_address

    stop, opening = asyncio.Event(), asyncio.current_task()
    loop = asyncio.get_running_loop()

    def stopped() -> None:
        stop.set()
        if opening is not None:  # it still looks for the hub
            opening.cancel()

    if quiet:
        logging.getLogger("kuberml.serving").setLevel(logging.ERROR)
    elif is_address(hub):
        from kuberml.worlds.live.meeting import PATIENCE_S as DIAL_S

        say(f"dials the hub at {hub}, for {DIAL_S:.0f} s at most; Ctrl-C stops it")
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped)
    async with Serving.opened(hub, on_swap=None if quiet else _tell, **options) as serving:
        admin = Admin(serving)
        try:
            await admin.open()
            opening = None
            _ready(serving, hub, quiet=quiet, json=json)
            await stop.wait()
        finally:
            await admin.close()
    if not quiet:
        say("the service has stopped; started again on its folder it goes on where it was")


def _ready(serving: Serving, hub: str, *, quiet: bool, json: bool) -> None:
    import os

    from kuberml.worlds.member.meeting import is_address

    me, where = serving.me, hub if is_address(hub) else f"the shared folder {hub} (a hub would be host:port)"
    if json:
        json_out({"http": serving.url, "hub": hub, "task": serving.task, "folder": str(serving.folder), "name": me.node,
                  "key": me.keys.public, "pid": os.getpid()})  # fmt: skip
    elif not quiet:
        say(
            f"{me.node} serves {serving.task!r} of {where}, from {serving.folder}/\n"
            f"  ask it       curl -H 'Content-Type: application/json' -d '{{\"inputs\": [...]}}' {serving.url}/v1/predict\n"
            f"  look at it   {serving.url}/v1/models  {serving.url}/metrics  {serving.url}/openapi.json\n"
            f"  go back      kuberml serve rollback --folder {serving.folder}\n"
            "Ctrl-C stops it."
        )


def _tell(live: Live) -> None:
    """A line for each version, from whatever thread puts it in place."""
    served = live.served
    labels = list(served.predictor.labels)
    fresh = ", ".join(f"{label} after {seconds:.2f} s" for label, seconds in sorted(live.freshness_s.items()))
    news = f"; new: {fresh}" if fresh else ""
    some = ", ".join(labels[:SHORT]) + (" ..." if len(labels) > SHORT else "")
    say(f"version {served.number} answers ({served.model[:SHORT]}, {live.engine.name} {live.engine.precision}): {some}{news}")
