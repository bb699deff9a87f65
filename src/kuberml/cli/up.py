"""`kuberml up`: a scenario's hub and learners as real processes on this machine."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kuberml.cli.output import json_out, leave_if_some_failed, result_out, say

if TYPE_CHECKING:
    from kuberml.scenario.live.slurm import Slurm

STOPPED = 130
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: [bold]kuberml up examples/live.toml --paradigm kuber[/bold]")(up)


def up(
    scenario: Annotated[Path, typer.Argument(help="A TOML file, as for `kuberml run`.")],
    *,
    paradigm: Annotated[
        str | None, typer.Option("--paradigm", help="Its label; default: all of the scenario, in turn.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Of data and training; default: the scenario's.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change a setting; repeatable.")] = None,
    until: Annotated[float | None, typer.Option("--until", min=1, help="Seconds at most; default: world.until_s.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for result.json, report.html and ledger.sqlite.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Data folder (else $KUBERML_DATA).")] = None,
    on: Annotated[str, typer.Option("--on", help='Where learners run: "" here, "slurm" as jobs of a cluster.')] = "",
    partition: Annotated[str, typer.Option("--partition", help="Of the cluster.")] = "",
    time: Annotated[
        str, typer.Option("--time", help="Walltime of a job, as for sbatch; it is submitted again until done.")
    ] = "",
    grace: Annotated[int, typer.Option("--grace", min=10, help="Seconds before its end at which a job is told.")] = 60,
    host: Annotated[str, typer.Option("--host", help="Address of this machine that the cluster's machines can dial.")] = "",
    sbatch: Annotated[list[str] | None, typer.Option("--sbatch", help="Another option of sbatch; repeatable.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was stopped, with what is left of its time.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="The result as JSON on stdout, nothing else.")] = False,
) -> None:
    """Bring a scenario up: its hub and every learner as a process of its own, real sockets, real time; then the same report.

    Devices, links and their delays are this machine's. A process that dies is started again and goes on where it was. Ctrl-C
    ends everything in order; a second one at once.
    """
    from kuberml.cli.live_table import watching_live
    from kuberml.core.errors import ConfigError
    from kuberml.scenario.config import load
    from kuberml.scenario.folder import free_folder, last_folder, open_folder
    from kuberml.scenario.live.slurm import Slurm
    from kuberml.scenario.live.up import LIVE, narrowed, play_live
    from kuberml.scenario.report import write_report
    from kuberml.scenario.result_files import read_runs

    scripts = str(scenario.resolve().parent)
    sys.path.insert(0, scripts)
    if data is not None:
        os.environ["KUBERML_DATA"] = str(data.resolve())
    config = narrowed(load(scenario, tuple(settings or ())), paradigm=paradigm, seed=seed, until_s=until)
    base = Path("runs") / f"{config.name}-live"
    folder = out or (last_folder(base) if resume else free_folder(base))
    slurm = Slurm(partition=partition, time=time, grace_s=grace, host=host, options=tuple(sbatch or ())) if on else None
    _check_place(on, slurm)
    open_folder(folder, config, resume=resume)
    try:
        with watching_live() as tell:
            result = play_live(config, out=folder.resolve(), tell=tell, scripts=scripts, slurm=slurm)
    except KeyboardInterrupt:  # in order, or a second Ctrl-C
        say(
            f"stopped; every process has ended. What they said is in {folder / LIVE}\n"
            f"Go on with the same command and --resume --out {folder}"
        )
        raise typer.Exit(STOPPED) from None
    except OSError as error:
        if error.errno not in _DISK:
            raise
        raise ConfigError(f"cannot go on in {folder}: {error}; make room, or choose another --out") from error
    report = write_report(folder, result, read_runs(folder))
    if json:
        json_out(result)
    else:
        result_out(result, report)
    leave_if_some_failed(result, folder)


def _check_place(on: str, slurm: Slurm | None) -> None:
    from kuberml.core.errors import ConfigError

    if on not in ("", "slurm"):
        raise ConfigError(f"--on {on!r}: only 'slurm' is known; leave it out for processes on this machine")
    if slurm is not None:
        slurm.check()
