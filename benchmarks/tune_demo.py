"""Tunes the demonstration's paradigms: a grid each, on public samples that no learner owns, on seeds that it does not use.

    python benchmarks/tune_demo.py [PARADIGM ...]

Prints mean accuracy over the seeds for every setting and the best one of each paradigm; what it found stands in demo.toml.
"""

from __future__ import annotations

import itertools
import sys
from importlib import resources

from kuberml.scenario.config import load
from kuberml.scenario.play import Play
from kuberml.scenario.public_things import PublicThings
from kuberml.scenario.run import scorer
from kuberml.scenario.summary import summarise
from kuberml.worlds.simulated.workers import make_workers

SEEDS = (100, 101, 102)
GRIDS = {
    "local": {"lr": (0.02, 0.05, 0.1), "momentum": (0.9,), "epochs": (20, 40)},
    "fedavg": {"lr": (0.05, 0.1, 0.2), "momentum": (0.0, 0.9), "epochs": (5, 20), "batch": (8, 32)},
    "fedavg-head": {"lr": (0.03, 0.1, 0.3, 1.0), "epochs": (1, 5, 20), "batch": (8, 32)},
    "one-shot": {"lr": (0.03, 0.1, 0.3, 1.0), "epochs": (30, 100, 300)},
    "dpsgd": {"lr": (0.05, 0.1, 0.2, 0.4), "momentum": (0.0, 0.9), "epochs": (5, 20), "batch": (8, 32)},
}


class Nowhere:
    def record(self, event: str, **fields: object) -> None:
        """Nothing is kept."""


def accuracy(label: str, settings: tuple[str, ...]) -> float:
    config = load(path(), ("data.judge=public", *settings))
    things, workers, found = PublicThings(config), make_workers(1), []
    for seed in SEEDS:
        play = Play(config, label, seed, things=things, workers=workers, cache=None, records=lambda node, now: Nowhere())
        honest = summarise(play, play.run(), scorer(workers)).accuracy.values()
        found.append(sum(honest) / max(1, len(honest)))
    return sum(found) / len(found)


def path():
    return resources.files("kuberml.scenario").joinpath("demo.toml")


def main(labels: list[str]) -> None:
    for label in labels or GRIDS:
        results = []
        for values in itertools.product(*GRIDS[label].values()):
            settings = tuple(f"paradigms.{label}.{name}={value}" for name, value in zip(GRIDS[label], values, strict=True))
            results.append((accuracy(label, settings), settings))
            print(f"{results[-1][0]:.4f}  {' '.join(settings)}", flush=True)
        best, settings = max(results)
        print(f"best of {label}: {best:.4f}  {' '.join(settings)}\n", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
