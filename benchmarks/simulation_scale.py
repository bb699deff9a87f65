"""The parts of `simulation.py` that have no peer: many learners, the empty loop, cost per learner."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from simulation_runs import HERE, Ran, run

from kuberml.worlds.simulated.loop import VirtualLoop

FLAT = (100, 300, 1000, 3000, 10000)


def events(options: argparse.Namespace) -> None:
    """1,000 tasks that sleep 100 times each, all of them at the same instants and at instants of their own."""
    rates = []
    for repeat in range(5):

        async def main(apart: int = repeat % 2) -> None:
            async def sleeper(number: int) -> None:
                for _ in range(100):
                    await asyncio.sleep(1 + apart * number / 1000)

            await asyncio.gather(*(sleeper(number) for number in range(1000)))

        loop = VirtualLoop()
        began_s, processor_s = time.perf_counter(), time.process_time()
        loop.run(main())
        rates.append(loop.events / (time.perf_counter() - began_s))
        print(f"  {rates[-1]:,.0f} events/s of the clock, {loop.events / (time.process_time() - processor_s):,.0f} of CPU time")
    print(f"the empty loop: {statistics.median(rates):,.0f} events/s (median of 5)")


def many(options: argparse.Namespace) -> None:
    """FedAvg among `--learners` with a LeNet: 100 train in a round, all adopt the end. And D-PSGD: a model of its own each."""
    for paradigm, cohort in (("fedavg", {"cohort": 100 / options.learners}), ("dpsgd", {})):
        ran = town(paradigm, options.learners, "lenet", rounds=1, **cohort)
        print(
            f"{paradigm}: {options.learners:,} learners of 61,706 weights: {ran.memory_bytes / 2**30:.2f} GiB at most", end=", "
        )
        print(f"{ran.total_s:.0f} s in all, CPU {ran.processor_s:.0f} s", flush=True)


def flat(options: argparse.Namespace) -> None:
    """CPU time of the scheduler per learner: every learner trains a linear model twice and mixes it with its neighbours'."""
    found = {}
    for learners in (count for count in FLAT if count <= options.most):
        least = min(
            town("dpsgd", learners, "linear", rounds=2).told["processor_s"] for _ in range(2 if learners <= 1000 else 1)
        )
        found[learners] = least / learners
        print(f"  {learners:6} learners: {1000 * found[learners]:6.2f} ms a learner", flush=True)
    fewest, most = min(found), max(found)
    print(f"from {fewest} to {most} learners the cost of one changes by a factor of {found[most] / found[fewest]:.2f}")
    if options.plot:
        draw(found, options.plot)


def draw(found: dict[int, float], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.5))
    axes.semilogx(list(found), [1000 * cost_s for cost_s in found.values()], marker="o")
    axes.set(xlabel="learners", ylabel="ms of CPU time a learner", title="Two rounds of D-PSGD, linear model", ylim=(0, None))
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def town(paradigm: str, learners: int, model: str, rounds: int, **options: float) -> Ran:
    """A run of a whole scenario in a process of its own."""
    tree = {
        "name": "town", "data": {"dataset": "fashion-mnist", "partition": "iid", "heldout": 0.01, "judge": "test"},
        "learners": {"count": learners, "models": [model]}, "train": {"lr": 0.05, "steps": 1, "batch": 32},
        "world": {"until_s": 1e8, "curve_points": 1, "target": 1.0}, "paradigms": {paradigm: {"rounds": rounds, **options}},
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="kuberml-town-") as name:
        folder = Path(name)
        (folder / "town.json").write_text(json.dumps(tree))
        return run([sys.executable, str(HERE / "simulation_town.py"), str(folder / "town.json")], folder, timeout_s=900)


SLICES: dict[str, Callable[[argparse.Namespace], None]] = {"many": many, "events": events, "flat": flat}
