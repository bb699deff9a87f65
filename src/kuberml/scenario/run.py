"""Run a scenario: every paradigm under every seed, in one folder that can be resumed and read.

The folder holds `result.json`, `runs.json` and `ledger.sqlite`; while it runs, `finished/` has one summary per run that has
ended and `jobs.sqlite` the results of jobs, so that an interrupted run goes on where it was and ends in the same hashes. They
stay where some of the runs have failed; `failed/` then has the tracebacks of errors that nobody foresaw.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

from kuberml import __version__
from kuberml.core.jobs import check_job
from kuberml.core.values import dumps
from kuberml.learning.jobs import score
from kuberml.learning.types import DataRef, Scores
from kuberml.ledger.ledger import Ledger
from kuberml.paradigms import PARADIGMS
from kuberml.scenario.aggregate import aggregate
from kuberml.scenario.config import Config
from kuberml.scenario.failures import Failures
from kuberml.scenario.options import check_options
from kuberml.scenario.play import Play
from kuberml.scenario.progress import Progress, Watch, unwatched
from kuberml.scenario.public_things import PublicThings
from kuberml.scenario.replay import RunRecords
from kuberml.scenario.result import Result
from kuberml.scenario.result_files import RESULT_FILE, read_result, write_result
from kuberml.scenario.run_summary import RunSummary
from kuberml.scenario.summary import summarise
from kuberml.scenario.warm import warm
from kuberml.worlds.simulated.results import JobCache
from kuberml.worlds.simulated.workers import Count, Workers, make_workers, open_reply

FINISHED, JOBS, LEDGER = "finished", "jobs.sqlite", "ledger.sqlite"


def run_scenario(config: Config, *, out: Path, workers: Count = 0, resume: bool = False, progress: Watch = unwatched) -> Result:
    """Run it all and write the folder. Where several runs are asked for, one that breaks does not end the others.

    Args:
        config: the scenario.
        out: its folder (see `scenario.folder`); made if it is not there.
        workers: worker processes; 0: one a core; "ray": those of a Ray cluster. Never changes a result.
        resume: go on with what an interrupted run left in the folder, which may be nothing to do; else that is thrown away.
        progress: told where each run stands.

    Raises:
        ConfigError: something in the scenario cannot be.
        Whatever ended the first run, where all have failed.
        KeyboardInterrupt: what was finished is kept.
    """
    began = time.perf_counter()
    check_options(config, PARADIGMS)
    if resume and is_finished(out) and not (whole := read_result(out)).is_live:
        return whole
    folder = _prepare(out, resume)
    pairs = [(label, seed) for label in config.paradigms for seed in config.run_seeds]
    pool = _workers(config, workers)
    things, cool = PublicThings(config), warm(config, pool)
    cache, ledger = JobCache(out / JOBS), Ledger(out / LEDGER)
    runs: list[RunSummary] = []
    failures = Failures(out, len(pairs))
    try:
        for place, (label, seed) in enumerate(pairs):
            step = Progress(paradigm=label, seed=seed, run=place, runs=len(pairs), until_s=config.world.until_s)
            summary = recall_summary(folder, label, seed)
            if summary is None:
                records = RunRecords(ledger, f"{label}.{seed}")
                try:
                    play = Play(config, label, seed, things=things, workers=pool, cache=cache, records=records)
                    play.tell, play.say = _teller(step, progress), _sayer(step, progress)
                    summary = summarise(play, play.run(), scorer(pool))
                except Exception as error:
                    failed = failures.add(label, seed, error)
                    progress(msgspec.structs.replace(step, done=True, failed=failed.why))
                    continue
                keep_summary(folder, summary)
            runs.append(summary)
            progress(_ended(step, summary))
        failures.check_one_is_left()
    finally:
        cool()
        pool.close()
        cache.close()
        ledger.close()
    wall_s = time.perf_counter() - began
    result = aggregate(runs, config, wall_s=wall_s, versions=versions(), failed=failures.runs)
    write_result(out, result, tuple(runs))
    if not failures.runs:  # else a resumption has something to do
        shutil.rmtree(folder)
        (out / JOBS).unlink()
    return result


def _workers(config: Config, count: Count) -> Workers:
    """A GPU is given whole stacks of fits by this process; everything else goes to as many workers as are asked for."""
    if config.learners.device != "cpu":
        from kuberml.worlds.simulated.together import Together

        return Together()
    return make_workers(count or len(os.sched_getaffinity(0)))


def is_finished(out: Path) -> bool:
    """Whether a folder holds a whole run: its result is written before what a resumption needs is thrown away."""
    return (out / RESULT_FILE).exists() and not (out / FINISHED).exists()


def versions() -> dict[str, str]:
    """Of what decides the numbers: kuberml, Python, numpy, and torch where it is."""
    found = {"kuberml": __version__, "python": platform.python_version()}
    for name in ("numpy", "torch", "scikit-learn"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _prepare(out: Path, resume: bool) -> Path:
    folder = out / FINISHED
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
        for name in (JOBS, LEDGER):
            for path in out.glob(f"{name}*"):  # with SQLite's -wal and -shm
                path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def recall_summary(folder: Path, label: str, seed: int) -> RunSummary | None:
    """What a run came to that was finished before the whole was; None: it was not."""
    path = folder / f"{label}.{seed}.json"
    return msgspec.json.decode(path.read_bytes(), type=RunSummary) if path.exists() else None


def keep_summary(folder: Path, summary: RunSummary) -> None:
    """Keep it for a resumption."""
    path = folder / f"{summary.paradigm}.{summary.seed}.json"
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(summary))
    part.replace(path)


def scorer(pool: Workers) -> Callable[[Sequence[tuple[Any, DataRef]]], list[Scores]]:
    """Scores predictors on all workers at once."""
    name = check_job(score).job_name

    def scored(asked: Sequence[tuple[Any, DataRef]]) -> list[Scores]:
        tickets = [pool.submit(dumps([name, [predictor, data]])) for predictor, data in asked]
        return [open_reply(pool.result(ticket)) for ticket in tickets]

    return scored


def _teller(step: Progress, progress: Watch) -> Callable[[float, int], None]:
    def tell(time_s: float, bytes_moved: int) -> None:
        progress(msgspec.structs.replace(step, time_s=time_s, bytes_moved=bytes_moved))

    return tell


def _sayer(step: Progress, progress: Watch) -> Callable[[str], None]:
    return lambda line: progress(msgspec.structs.replace(step, note=line))


def _ended(step: Progress, summary: RunSummary) -> Progress:
    honest = [accuracy for node, accuracy in summary.accuracy.items() if node not in summary.liars]
    mean = sum(honest) / len(honest) if honest else None
    return msgspec.structs.replace(
        step, time_s=summary.virtual_time_s, bytes_moved=summary.bytes_moved, accuracy_mean=mean, done=True
    )
