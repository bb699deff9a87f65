"""Run a scenario: every paradigm under every seed, in one folder that can be resumed and read.

The folder holds `scenario.toml`, `result.json`, `runs.json`, `report.html`, `ledger.sqlite`, and while it runs one summary per
finished run and the results of finished jobs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from kuberml.core.errors import ConfigError
from kuberml.core.ids import NodeId
from kuberml.core.values import dumps
from kuberml.learning.jobs import score as score_job
from kuberml.learning.types import DataRef, Scores
from kuberml.ledger.ledger import Ledger
from kuberml.scenario.aggregate import aggregate
from kuberml.scenario.config import Config
from kuberml.scenario.digests import scenario_digest
from kuberml.scenario.play import Play
from kuberml.scenario.public_things import PublicThings
from kuberml.scenario.result import Result, RunSummary, write_result
from kuberml.worlds.simulated.results import JobCache
from kuberml.worlds.simulated.workers import Workers, make_workers, open_reply

Progress = Callable[[str, int, int, int], None]
"""Told after every run: (paradigm, seed, runs done, runs in all)."""

RUNS, JOBS, LEDGER = "finished", "jobs.sqlite", "ledger.sqlite"


def run_scenario(
    config: Config, *, out: Path, workers: int = 0, resume: bool = False, progress: Progress | None = None
) -> Result:
    """Run it all and write the folder.

    Args:
        config: the scenario.
        out: the folder; made if it is not there.
        workers: worker processes; 0: as the scenario says, else one a core. Never changes a result.
        resume: go on in a folder that an interrupted run left; the same trace hashes come out.
        progress: told after every run.

    Raises:
        ConfigError: the folder holds another scenario's run, or something in the scenario cannot be.
        KeyboardInterrupt: what was finished is kept.
    """
    began = time.perf_counter()
    folder = _prepare(config, out, resume)
    things = PublicThings(config)
    pairs = [(label, seed) for label in config.paradigms for seed in config.run_seeds]
    pool = make_workers(workers or config.world.workers)
    cache, ledger = JobCache(folder / JOBS), Ledger(out / LEDGER)
    runs: list[RunSummary] = []
    try:
        for label, seed in pairs:
            summary = _finished(folder, label, seed)
            if summary is None:
                play = Play(
                    config, label, seed, things=things, workers=pool, cache=cache, records=_records(ledger, label, seed)
                )
                summary = play.run(_scorer(pool))
                (folder / f"{label}.{seed}.json").write_bytes(msgspec.json.encode(summary))
            runs.append(summary)
            if progress is not None:
                progress(label, seed, len(runs), len(pairs))
    finally:
        pool.close()
        cache.close()
        ledger.close()
    result = aggregate(runs, config, wall_s=time.perf_counter() - began)
    write_result(out, result, tuple(runs))
    return result


def _prepare(config: Config, out: Path, resume: bool) -> Path:
    folder = out / RUNS
    mark, mine = folder / "scenario.digest", scenario_digest(config)
    if mark.exists() and not resume:
        for old in sorted(folder.iterdir()):
            old.unlink()
        (out / LEDGER).unlink(missing_ok=True)
    if mark.exists() and mark.read_text() != mine:
        raise ConfigError(f"{out} holds a run of another scenario; give another --out, or leave --resume away to start over")
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(mine)
    return folder


def _finished(folder: Path, label: str, seed: int) -> RunSummary | None:
    path = folder / f"{label}.{seed}.json"
    return msgspec.json.decode(path.read_bytes(), type=RunSummary) if path.exists() else None


def _records(ledger: Ledger, label: str, seed: int) -> Any:
    def recorder(node: NodeId, now_ns: Callable[[], int]) -> Any:
        return ledger.recorder(NodeId(f"{label}.{seed}.{node}"), now_ns)

    return recorder


def _scorer(pool: Workers) -> Callable[[Sequence[tuple[Any, DataRef]]], list[Scores]]:
    def score(asked: Sequence[tuple[Any, DataRef]]) -> list[Scores]:
        name = "kuberml.learning.jobs:score"
        assert score_job
        tickets = [pool.submit(dumps([name, [predictor, data]])) for predictor, data in asked]
        return [open_reply(pool.result(ticket)) for ticket in tickets]

    return score
