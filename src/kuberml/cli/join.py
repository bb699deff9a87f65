"""`kuberml join`: run a program of one's own as a member of a hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kuberml.cli.at_hub import HubOption, KeyOption, RealmOption, TlsOption
from kuberml.cli.output import say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Example: [bold]kuberml join --hub 127.0.0.1:7447 examples/learner.py 5 6 7 8 9[/bold]",
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    )(join)


def join(
    program: Annotated[Path, typer.Argument(help="A Python program that calls kuberml.join(task=..., labels=..., data=...).")],
    arguments: Annotated[list[str] | None, typer.Argument(help="Its own arguments.")] = None,
    *,
    hub: HubOption = "127.0.0.1:7447",
    name: Annotated[str, typer.Option("--name", help="Who you are there. Default: program, arguments, key.")] = "",
    key: KeyOption = None,
    realm: RealmOption = "default",
    tls: TlsOption = "",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not tell each step on stderr.")] = False,
) -> None:
    """Run a Python program as a member of a hub: where it calls [bold]kuberml.join(task=...)[/bold], it joins that hub.

    It runs once, in this process, as `python PROGRAM ARGUMENTS` would; its exit status is this command's. Its secret key and
    what it holds lie in NAME.key and NAME.vault: started again it is the same member, and goes on where it was.
    """
    import os
    import signal
    import sys

    from kuberml.core.errors import ConfigError
    from kuberml.worlds.live.names import endpoints

    endpoints(hub)  # here, since a program would take what is no address for a folder
    if not program.is_file():
        raise ConfigError(f"there is no program {program}; give the path of a Python file")
    os.environ.update(KUBERML_HUB=hub, KUBERML_REALM=realm, KUBERML_TLS=tls, KUBERML_TELL="" if quiet else "1")
    if key is not None:
        os.environ["KUBERML_KEY"] = str(key)
    if name:
        os.environ["KUBERML_NAME"] = name
    if not quiet:
        say(f"{program.name} joins the hub at {hub}; Ctrl-C stops it")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that it leaves in order
    _run(program, arguments or [])


def _run(program: Path, arguments: list[str]) -> None:
    """As the interpreter runs a file: its arguments, and its folder first among those with modules."""
    import runpy
    import sys

    sys.argv = [str(program), *arguments]
    sys.path.insert(0, str(program.resolve().parent))
    try:
        runpy.run_path(str(program), run_name="__main__")
    except KeyboardInterrupt:
        say(f"{program.name} was stopped")
        sys.exit(130)
