"""A small scenario on digits for tests: six learners, one of whom lies, seconds of virtual time, no torch on workers."""

from __future__ import annotations

from typing import Any

from kuberml.core.seam import Recorder
from kuberml.scenario.config import parse
from kuberml.scenario.play import Play
from kuberml.scenario.public_things import PublicThings
from kuberml.scenario.run import scorer
from kuberml.scenario.run_summary import RunSummary
from kuberml.scenario.summary import summarise
from kuberml.worlds.simulated.workers import make_workers

SMALL: dict[str, Any] = {
    "name": "small",
    "data": {"partition": "iid", "public": 60, "limit": 240},
    "learners": {"count": 6, "models": ["linear"], "liars": 1},
    "extractor": {"name": "identity"},
    "world": {"until_s": 1200, "curve_points": 2},
}
PARADIGMS: dict[str, dict[str, Any]] = {
    "local": {"epochs": 2},
    "fedavg": {"rounds": 3},
    "fedavg-head": {"rounds": 3},
    "one-shot": {"epochs": 2},
    "fed3r": {},
    "dpsgd": {"rounds": 3, "patience_s": 30.0},
    "centralised": {"epochs": 2},
    "kuber": {"looks": 2},
}


class Silent:
    def record(self, event: str, **fields: Any) -> None:
        """Keep nothing."""


def ran(tree: dict[str, Any], seed: int = 0) -> Play:
    """One run of the scenario's only paradigm, with everything that it left behind."""
    play = prepared(tree, seed)
    run_to_end(play)
    return play


def prepared(tree: dict[str, Any], seed: int = 0) -> Play:
    """The stage of the scenario's only paradigm; nothing runs yet."""
    config = parse(tree)
    (label,) = config.paradigms

    def records(node: Any, now_ns: Any) -> Recorder:
        return Silent()

    return Play(config, label, seed, things=PublicThings(config), workers=make_workers(1), cache=None, records=records)


def run_to_end(play: Play) -> RunSummary:
    """Run it and measure."""
    workers = make_workers(1)
    try:
        return summarise(play, play.run(), scorer(workers))
    finally:
        workers.close()
