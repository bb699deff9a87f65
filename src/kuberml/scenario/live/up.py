"""Play a scenario live on this machine, and write the same folder as a simulated run."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from pathlib import Path

import msgspec

from kuberml.core.errors import ConfigError, nearest
from kuberml.ledger.ledger import Ledger
from kuberml.scenario.aggregate import aggregate
from kuberml.scenario.config import Config
from kuberml.scenario.live.ending import summary_of
from kuberml.scenario.live.run import LiveRun, Tell
from kuberml.scenario.result import Result, RunSummary, write_result
from kuberml.scenario.run import LEDGER, scorer, versions
from kuberml.worlds.simulated.workers import make_workers

LIVE, LOGS = "live", "logs"
"""Folders: of runs under way (kept if one fails), and what their processes said."""


class Stopped(KeyboardInterrupt):
    """Ctrl-C, or SIGTERM: everything was ended in order."""


def narrowed(config: Config, *, paradigm: str | None, seed: int | None, until_s: float | None) -> Config:
    """The part of a scenario that is played: one paradigm or all, one seed.

    Raises:
        ConfigError: no such paradigm in the scenario, or it has what a live run cannot play.
    """
    if paradigm is not None and paradigm not in config.paradigms:
        raise ConfigError(f"--paradigm {paradigm}: {nearest(paradigm, config.paradigms)}")
    if config.faults:
        raise ConfigError("[[faults]] are the simulated world's: leave them out, or `kuberml run` the scenario")
    chosen = {paradigm: config.paradigms[paradigm]} if paradigm is not None else config.paradigms
    world = config.world if until_s is None else msgspec.structs.replace(config.world, until_s=until_s)
    return msgspec.structs.replace(config, seed=config.seed if seed is None else seed, seeds=1, paradigms=chosen, world=world)


def play_live(config: Config, *, out: Path, tell: Tell, scripts: str = "") -> Result:
    """Play every paradigm of the scenario once, one after the other, and write the folder `out`.

    Args:
        config: see `narrowed`.
        out: its folder, made by `scenario.folder`.
        tell: shown how it stands, a few times a second.
        scripts: folder of a user's own paradigms and models.

    Raises:
        ConfigError, Unreachable: see `LiveRun`. What processes said is in `out/live`.
        Stopped: by Ctrl-C or SIGTERM.
    """
    began = time.perf_counter()
    runs: list[RunSummary] = []
    pool = make_workers(1)
    try:
        with Ledger(out / LEDGER) as ledger:
            for label in config.paradigms:
                run = LiveRun(config, label, config.seed, out / LIVE / f"{label}.{config.seed}", scripts=scripts)
                asyncio.run(_played(run, tell))
                runs.append(summary_of(run, ledger, scorer(pool)))
    finally:
        pool.close()
    result = aggregate(runs, config, wall_s=time.perf_counter() - began, versions=versions())
    write_result(out, result, tuple(runs))
    _tidy(out)
    return result


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


def _tidy(out: Path) -> None:
    """Keep what processes said; vaults and predictors have served."""
    for run in sorted((out / LIVE).iterdir()):
        shutil.rmtree(out / LOGS / run.name, ignore_errors=True)
        shutil.copytree(run / LOGS, out / LOGS / run.name)
    shutil.rmtree(out / LIVE)
