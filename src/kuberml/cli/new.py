"""`kuberml new`: something to start from, commented."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kuberml.cli.output import say


class What(StrEnum):
    """What can be begun."""

    scenario = "scenario"
    paradigm = "paradigm"
    learner = "learner"


_SUFFIX = {What.scenario: ".toml", What.paradigm: ".py", What.learner: ".py"}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")  # also the name of a module


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: [bold]kuberml new scenario mine.toml[/bold]")(new)


def new(
    what: Annotated[What, typer.Argument(help="A scenario file, your own paradigm, or your own learner.")],
    path: Annotated[Path, typer.Argument(help="The file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
) -> None:
    """Write a commented file to start from: a scenario, a paradigm or a learner."""
    from kuberml.core.errors import ConfigError
    from kuberml.scenario.options import is_library

    path = path if path.suffix else path.with_suffix(_SUFFIX[what])
    if path.suffix != _SUFFIX[what] or _NAME.fullmatch(path.stem) is None:
        raise ConfigError(f"{path}: a {what.value} is a {_SUFFIX[what]} file named with letters, digits and _")
    if what is not What.scenario and is_library(path.stem):
        raise ConfigError(f"{path}: {path.stem!r} is also a library's name, and who imports it gets one or the other: rename")
    if path.exists() and not force:
        raise ConfigError(f"{path} is there already: --force overwrites it")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(template(what, path.stem), encoding="utf-8")
    say(f"wrote {path}. {_next(what, path)}")


def template(what: What, name: str) -> str:
    """The text of a new file."""
    from importlib import resources
    from string import Template

    text = resources.files("kuberml.cli").joinpath(f"templates/{what.value}{_SUFFIX[what]}.txt").read_text(encoding="utf-8")
    return Template(text).substitute(name=name, module=name, cls=_camel(name))


def _camel(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def _next(what: What, path: Path) -> str:
    return f"Run it: kuberml run {path}" if what is What.scenario else "Its first lines say how a scenario uses it."
