"""`kuberml run` and `kuberml demo`: a scenario from its file to its result."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kuberml.cli.output import json_out, leave_if_some_failed, result_out, say
from kuberml.cli.watching import watching
from kuberml.core.errors import ConfigError

if TYPE_CHECKING:
    from kuberml.scenario.config import Config
    from kuberml.worlds.simulated.workers import Count

STOPPED = 130

Seeds = Annotated[int | None, typer.Option("--seeds", min=1, help="Repetitions, with seeds seed, seed+1, ...")]
Workers = Annotated[
    str | None, typer.Option("--workers", help="Worker processes; 0 = one a core; ray = a Ray cluster. No result changes.")
]
Out = Annotated[Path | None, typer.Option("--out", help="Folder for result.json, report.html and ledger.sqlite.")]
DataFolder = Annotated[Path | None, typer.Option("--data", help="Data folder (else $KUBERML_DATA).")]
Json = Annotated[bool, typer.Option("--json", help="The result as JSON on stdout, nothing else.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped; ends in the same trace hash.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: [bold]kuberml demo --seeds 1[/bold]")(demo)
    app.command(epilog="Example: [bold]kuberml run mine.toml --set learners.count=20 --seeds 3 --out runs/twenty[/bold]")(run)


def demo(
    *,
    cloud: Annotated[bool, typer.Option("--cloud", help="The continual cloud: edges meet digit after digit.")] = False,
    seeds: Seeds = None,
    workers: Workers = None,
    out: Out = None,
    json: Json = False,
    resume: Resume = False,
) -> None:
    """Twelve learners who each know three digits, three liars among them: every way of learning together, side by side."""
    from importlib import resources

    name = "continual_cloud.toml" if cloud else "demo.toml"
    with resources.as_file(resources.files("kuberml.scenario").joinpath(name)) as path:
        config = _config(path, (), None, seeds)
    _run(config, out, workers, json=json, resume=resume)


def run(
    scenario: Annotated[Path, typer.Argument(help="A TOML file; `kuberml new scenario` writes one to start from.")],
    *,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change a setting; repeatable.")] = None,
    paradigm: Annotated[
        list[str] | None, typer.Option("--paradigm", help="Its label; repeatable. Default: all of the scenario.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="The first seed.")] = None,
    seeds: Seeds = None,
    workers: Workers = None,
    out: Out = None,
    data: DataFolder = None,
    json: Json = False,
    resume: Resume = False,
) -> None:
    """Run a scenario: build its world, let every paradigm learn in it, save and show what came out."""
    sys.path.insert(0, str(scenario.resolve().parent))  # a user's own paradigms and models lie beside the scenario
    if data is not None:
        os.environ["KUBERML_DATA"] = str(data.resolve())
    from kuberml.scenario.options import only

    config = only(_config(scenario, tuple(settings or ()), seed, seeds), paradigm or ())
    _run(config, out, workers, json=json, resume=resume)


def _config(path: Path, settings: tuple[str, ...], seed: int | None, seeds: int | None) -> Config:
    from kuberml.scenario.config import load

    extra = [f"{name}={number}" for name, number in (("seed", seed), ("seeds", seeds)) if number is not None]
    return load(path, (*settings, *extra))


def _count(text: str) -> Count:
    """Raises ConfigError: neither a number of processes nor "ray"."""
    if text == "ray":
        return "ray"
    if not text.isdecimal():
        raise ConfigError(f"--workers {text}: give a number of processes (0 = one a core), or 'ray'")
    return int(text)


def _run(config: Config, out: Path | None, workers: str | None, *, json: bool, resume: bool) -> None:
    from kuberml.scenario.folder import free_folder, last_folder, open_folder
    from kuberml.scenario.remarks import remarks
    from kuberml.scenario.report import write_report
    from kuberml.scenario.result_files import read_runs
    from kuberml.scenario.run import run_scenario  # type: ignore[import-not-found, unused-ignore]

    base = Path("runs") / config.name
    folder = out or (last_folder(base) if resume else free_folder(base))
    open_folder(folder, config, resume=resume)
    count = config.world.workers if workers is None else _count(workers)
    for remark in remarks(config):
        say(f"note: {remark}")
    try:
        with watching() as watch:
            result = run_scenario(config, out=folder, workers=count, resume=resume, progress=watch)
    except KeyboardInterrupt:
        say(f"stopped; what is done is kept in {folder}. Go on with the same command and --resume --out {folder}")
        raise typer.Exit(STOPPED) from None
    report = write_report(folder, result, read_runs(folder))
    if json:
        json_out(result)
    else:
        result_out(result, report)
    leave_if_some_failed(result, folder)
