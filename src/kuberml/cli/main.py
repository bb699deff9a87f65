"""The `kuberml` command. Each command has its own file and imports what it needs when it is called: `--help` is quick."""

from __future__ import annotations

import errno
import sys
from typing import Annotated

import typer

from kuberml.cli import (
    backup,
    compare,
    doctor,
    export,
    fetch,
    find,
    forget,
    hub,
    join,
    keys,
    mirror,
    new,
    publish,
    run,
    serve,
    show,
    up,
    verify,
)
from kuberml.cli.output import say
from kuberml.core.errors import ConfigError, KuberError, RemoteError, Unreachable, told

EXIT_CONFIG, EXIT_REMOTE, EXIT_UNREACHABLE, EXIT_INTERNAL = 2, 3, 4, 70
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)

app = typer.Typer(
    name="kuberml",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Learned knowledge, delivered: say what your model lacks; kuberml finds who knows it, proves that it helps, and folds"
        " it in.\n\nStart with [bold]kuberml demo[/bold], then [bold]kuberml new scenario mine.toml[/bold] and"
        " [bold]kuberml run mine.toml[/bold]."
    ),
    epilog=(
        "Exit status: 0 done, 2 a setting of yours, 3 a peer's data, 4 unreachable, 5 some runs of a comparison failed,"
        " 70 our fault, 130 stopped."
    ),
)
for _module in (
    hub,
    join,
    publish,
    find,
    fetch,
    forget,
    mirror,
    keys,
    run,
    up,
    compare,
    serve,
    new,
    show,
    verify,
    export,
    backup,
    doctor,
):
    _module.register(app)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"kuberml {version('kuberml')}")
        except PackageNotFoundError:
            typer.echo("kuberml, run from its source")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; every error is one clear line and an exit status that says whose fault it is."""
    try:
        app(prog_name="kuberml")
    except KuberError as error:
        say(f"kuberml: {told(error)}")
        sys.exit(exit_status(error))
    except BrokenPipeError:  # the reader of our output has left: nobody is there to be told
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:
        if error.errno in _NO_ROOM:
            say(f"kuberml: the disk takes no more: {error}; make room and give the same command again")
        elif error.errno in _NO_RIGHT:
            say(f"kuberml: not allowed: {error}; give another place, or be who may read and write there")
        else:
            raise
        sys.exit(EXIT_CONFIG)


def exit_status(error: KuberError) -> int:
    """What the shell is told."""
    for sort, status in ((ConfigError, EXIT_CONFIG), (RemoteError, EXIT_REMOTE), (Unreachable, EXIT_UNREACHABLE)):
        if isinstance(error, sort):
            return status
    return EXIT_INTERNAL
