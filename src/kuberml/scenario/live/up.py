"""Play a scenario live on this machine, and write the same folder as a simulated run."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from pathlib import Path

import msgspec

from kuberml.core.errors import ConfigError, InternalError, KuberError
from kuberml.core.ids import NodeId
from kuberml.ledger.ledger import Ledger
from kuberml.paradigms import PARADIGMS
from kuberml.scenario.aggregate import aggregate
from kuberml.scenario.config import Config
from kuberml.scenario.failures import Failures
from kuberml.scenario.live.ending import summary_of
from kuberml.scenario.live.run import LiveRun
from kuberml.scenario.live.slurm import Slurm
from kuberml.scenario.live.view import Tell, View
from kuberml.scenario.lockstep import run_lockstep, run_of
from kuberml.scenario.options import check_options, only
from kuberml.scenario.play import Play
from kuberml.scenario.public_things import PublicThings
from kuberml.scenario.replay import RunRecords
from kuberml.scenario.result import FailedRun, Result
from kuberml.scenario.result_files import read_result, read_runs, write_result
from kuberml.scenario.run import FINISHED, LEDGER, is_finished, keep_summary, recall_summary, scorer, versions
from kuberml.scenario.run_summary import RunSummary
from kuberml.scenario.summary import summarise
from kuberml.worlds.simulated.workers import Workers, make_workers

LIVE, LOGS = "live", "logs"
"""Folders: of runs under way (kept if one fails), and what their processes said."""


class Stopped(KeyboardInterrupt):
    """Ctrl-C, or SIGTERM: everything was ended in order."""


def narrowed(config: Config, *, paradigm: str | None, seed: int | None, until_s: float | None) -> Config:
    """The part of a scenario that is played: one paradigm or all, one seed.

    Raises:
        ConfigError: no such paradigm in the scenario, or it has what a live run cannot play.
    """
    config = only(config, () if paradigm is None else (paradigm,))
    if config.faults:
        raise ConfigError("[[faults]] are the simulated world's: leave them out, or `kuberml run` the scenario")
    world = config.world if until_s is None else msgspec.structs.replace(config.world, until_s=until_s)
    return msgspec.structs.replace(config, seed=config.seed if seed is None else seed, seeds=1, world=world)


def play_live(config: Config, *, out: Path, tell: Tell, scripts: str = "", slurm: Slurm | None = None) -> Result:
    """Play every paradigm of the scenario once, one after the other, and write the folder `out`.

    Where there are several, one that fails does not end the others (see `scenario.failures`), unless it would befall them too.
    What an interrupted run left there goes on: finished paradigms are not played again, nodes go on from their vaults. Where
    all of them were finished, what they came to is read again.

    Args:
        config: see `narrowed`.
        out: its folder, made by `scenario.folder`.
        tell: shown how it stands, a few times a second.
        scripts: folder of a user's own paradigms and models.
        slurm: learners are its jobs; `out` and `scripts` lie on a file system that the cluster's machines share.

    Raises:
        ConfigError, Unreachable: see `LiveRun`; the first, where all have failed. What processes said is in `out/live`.
        Stopped: by Ctrl-C or SIGTERM.
    """
    if slurm is not None and config.world.schedule == "lockstep":
        raise ConfigError("world.schedule = 'lockstep' is played by processes on this machine: leave out --on slurm")
    began = time.perf_counter()
    runs: list[RunSummary] = []
    check_options(config, PARADIGMS)
    if is_finished(out) and all(str(run.extra.get("world", "")).startswith("live") for run in read_runs(out)):
        return read_result(out)
    done = out / FINISHED
    done.mkdir(exist_ok=True)
    pool, failures, telling = make_workers(1), Failures(out, len(config.paradigms)), _Telling(tell)
    try:
        with Ledger(out / LEDGER) as ledger:
            for label in config.paradigms:
                folder = out / LIVE / f"{label}.{config.seed}"
                summary = recall_summary(done, label, config.seed)
                try:
                    if summary is None and config.world.schedule == "lockstep":
                        shutil.rmtree(folder, ignore_errors=True)
                        summary = _in_lockstep(config, label, folder, ledger, pool)
                    elif summary is None:
                        run = _freely(config, label, folder, telling, scripts, slurm)
                        summary = summary_of(run, ledger, scorer(pool))
                except _BefallsAllError as error:
                    raise error.first from None
                except Exception as error:
                    telling.failed(failures.add(label, config.seed, error), config.world.until_s)
                    continue
                keep_summary(done, summary)
                runs.append(summary)
        failures.check_one_is_left()
    finally:
        pool.close()
    wall_s = time.perf_counter() - began
    result = aggregate(runs, config, wall_s=wall_s, versions=versions(), failed=failures.runs)
    write_result(out, result, tuple(runs))
    if not failures.runs:  # else a resumption has something to do
        _tidy(out)
    return result


class _BefallsAllError(Exception):
    """`first` is of this machine, or of the cluster, not of a paradigm: the next run would meet it too."""

    def __init__(self, first: KuberError) -> None:
        super().__init__(str(first))
        self.first = first


class _Telling:
    """Tells how it stands, and, in the last place, that a run has failed."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self._last = tell, View(paradigm="", seed=0, time_s=None, until_s=0, moved_bytes=0, page="", rows=())

    def __call__(self, view: View) -> None:
        self._last = view
        self._tell(view)

    def failed(self, run: FailedRun, until_s: float) -> None:
        last, line = self._last, f"{run.paradigm}, seed {run.seed}: failed: {run.why}"
        if last.paradigm != run.paradigm:  # before there was anything to tell of it
            last = msgspec.structs.replace(last, paradigm=run.paradigm, seed=run.seed, until_s=until_s, rows=(), news=())
        self(msgspec.structs.replace(last, news=(*last.news, line)))


def _freely(config: Config, label: str, folder: Path, tell: Tell, scripts: str, slurm: Slurm | None) -> LiveRun:
    """Play one paradigm in real time, to its end."""
    run = None
    try:
        run = LiveRun(config, label, config.seed, folder, scripts=scripts, slurm=slurm)
        asyncio.run(_played(run, tell))
    except KuberError as error:
        if isinstance(error.__cause__, OSError) or (run is not None and not run.is_started):
            raise _BefallsAllError(error) from error
        raise
    return run


async def _played(run: LiveRun, tell: Tell) -> None:
    """Play it; the first SIGINT or SIGTERM ends it in order, the second at once."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def stopping() -> None:
        if stop.is_set():
            run.crew.kill()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping)
    await run.play(tell, stop)
    if stop.is_set():
        raise Stopped


def _in_lockstep(config: Config, label: str, folder: Path, ledger: Ledger, pool: Workers) -> RunSummary:
    """Play it live in lockstep, and simulated: they come to the same for every node, so one summary is both's.

    Raises:
        InternalError: they do not; the message names a node.
    """
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        live = run_lockstep(config, label, config.seed, out=folder)
    except KeyboardInterrupt:
        raise Stopped from None
    finally:
        signal.signal(signal.SIGTERM, before)
    records = RunRecords(ledger, f"{label}.{config.seed}")
    play = Play(config, label, config.seed, things=PublicThings(config), workers=pool, cache=None, records=records)
    outcome = play.run()
    simulated = run_of(play, outcome)
    if live != simulated:
        differs = [node for node, end in simulated.nodes.items() if live.nodes.get(node) != end] or [
            NodeId("the time of its end")
        ]
        raise InternalError(f"{label}, seed {config.seed}: live and simulated differ under lockstep, first in {differs[0]}")
    summary = summarise(play, outcome, scorer(pool))
    note = f"live in lockstep, {len(live.nodes)} processes: equal to the simulated run; time is virtual, energy modelled"
    return msgspec.structs.replace(
        summary,
        note="; ".join(filter(None, (summary.note, note))),
        extra={**summary.extra, "world": "live in lockstep", "finished": live.finished},
    )


def _tidy(out: Path) -> None:
    """Keep what processes said; vaults and predictors have served."""
    for run in sorted((out / LIVE).iterdir()):
        shutil.rmtree(out / LOGS / run.name, ignore_errors=True)
        shutil.copytree(run / LOGS, out / LOGS / run.name)
    shutil.rmtree(out / LIVE)
    shutil.rmtree(out / FINISHED)
