"""`kuberml serve`: answer queries by a model that the members of a hub keep fresh; and what an operator may ask of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kuberml.cli.at_hub import STOPPED, KeyOption, RealmOption, TlsOption
from kuberml.cli.output import json_out, say, table_out

if TYPE_CHECKING:
    from kuberml.serving.http.slot import Live
    from kuberml.serving.live import Serving

FOLDER = Path("kuberml-serve")
LOOK_IN_FOLDER_S = 1.0
"""How often a shared folder is looked at: nobody tells there what another process has put into it."""
PATIENCE_S = 5.0
"""With members that try a version: nothing is taken in meanwhile."""
SHORT = 12
"""Characters of a digest that people are shown."""

FolderOption = Annotated[Path, typer.Option("--folder", help="Where it keeps key, packages and history; made if missing.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON on stdout.")]

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
    app.command(epilog="Example: [bold]kuberml serve history --json[/bold]")(history)
    app.command(
        epilog="Examples: [bold]kuberml serve rollback[/bold] · [bold]kuberml serve rollback --to 3f9c01[/bold]",
    )(rollback)
    app.command(epilog="Example: [bold]kuberml serve remove 3f9c...[/bold]")(remove)
    app.command(epilog="Example: [bold]kuberml serve readmit[/bold]")(readmit)
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


def history(folder: FolderOption = FOLDER, json: AsJson = False) -> None:
    """List every version that a running service has served, with how it did on the public probe; and what was refused."""
    from kuberml.serving.admin import ask

    found = asyncio.run(ask(folder, "history"))
    if json:
        json_out(found)
        return
    head = ["version", "manifest", "at", "labels", "A_T", "gap to joint", "why"]
    table_out(head, [_row(row) for row in found["versions"]])
    if lines := found["forgetting"]:
        table_out(["on", "of", "accuracy by version", "forgotten"], [_line(line) for line in lines])
    for card, why in found["refused"].items():
        say(f"refused {card[:SHORT]}: {why}")
    for author in found["kept_out"]["removed"]:
        say(f"removed {author[:SHORT]}: nothing of this author comes in until `kuberml serve readmit {author[:SHORT]}`")
    for one in found["kept_out"]["contents"]:
        say(f"kept out {one['content'][:SHORT]}, {one['slot']!r} of {one['author'][:SHORT]}: {one['why']}")
    for author, trust_ppm in found["witnesses"].items():
        say(f"{author[:SHORT]} has tried versions; its word counts {trust_ppm / 1e6:.0%}")


def _row(row: dict[str, Any]) -> list[str]:
    from datetime import UTC, datetime

    measures = row.get("measures") or {}
    at = datetime.fromtimestamp(row["at_ms"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    numbers = [_share(measures.get(name)) for name in ("accuracy", "gap_to_joint")]
    return [str(row["number"]), row["manifest"][:SHORT], at, str(len(row["labels"])), *numbers, row["why"]]


def _line(line: dict[str, Any]) -> list[str]:
    """Of the versions the last eight."""
    known = " ".join(_share(one) or "-" for one in line["accuracy"][-8:])
    name = line["name"] if line["of"] == "task" else line["name"][:SHORT]
    return [line["of"], name, known, _share(line["forgotten"])]


def _share(found: float | None) -> str:
    return "" if found is None else f"{found:.3f}"


def rollback(
    to: Annotated[str, typer.Option("--to", help="Manifest of a version (its beginning); default: the one before.")] = "",
    folder: FolderOption = FOLDER,
    json: AsJson = False,
) -> None:
    """Serve an earlier version again, at once. What came after it stays out until [bold]kuberml serve readmit[/bold]."""
    from kuberml.serving.admin import Rollback, ask

    _now(asyncio.run(ask(folder, "rollback", Rollback(to or None))), json=json)


def remove(
    author: Annotated[str, typer.Argument(help="Public key of the contributor, as /v1/origin tells it, or how that begins.")],
    folder: FolderOption = FOLDER,
    json: AsJson = False,
) -> None:
    """Forget a contributor: the model that never had its knowledge is served from now on."""
    from kuberml.serving.admin import Removal, ask

    _now(asyncio.run(ask(folder, "remove", Removal(author))), json=json)


def readmit(
    names: Annotated[
        list[str] | None, typer.Argument(help="Contents, authors or cards, or how they begin; none: all that was kept out.")
    ] = None,
    folder: FolderOption = FOLDER,
    json: AsJson = False,
) -> None:
    """Let in again what was rolled back, removed or refused: it is tried anew at the next look at the hub (half a minute)."""
    from kuberml.serving.admin import Readmission, ask

    found = asyncio.run(ask(folder, "readmit", Readmission(tuple(names or ()))))
    if json:
        json_out(found)
    else:
        say("what was kept out is tried anew at the next look at the hub; `kuberml serve history` shows what comes of it")


def _now(found: dict[str, Any], *, json: bool) -> None:
    if json:
        json_out(found)
    else:
        say(f"version {found['number']} answers now: model {found['model'][:SHORT]}, manifest {found['manifest'][:SHORT]}")
