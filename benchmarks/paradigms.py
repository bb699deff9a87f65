"""Every way of learning together on the same data, devices and budget: a headline cell, one factor at a time, and scale.

    python benchmarks/paradigms.py --data DIR --dry-run                    # the plan, and the hours that it is reckoned to take
    python benchmarks/paradigms.py --data DIR --out results --minutes 9       # one slice: goes on where the last one ended
    python benchmarks/paradigms.py --out results --overview                   # a Markdown table of what is there

Groups (`--group`): grid, scale, liars, tune, smoke. One file per cell, paradigm and seed, in `results`; a slice that ends
within a run leaves the results of its jobs behind, so the next one goes on in it. Cells, settings and budgets:
`paradigms_cells.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import time
from dataclasses import replace as altered
from pathlib import Path

import msgspec
import numpy as np
from paradigms_cells import ALL, CELLS, LIARS, SCALES, SMOKE, TUNING, reckoned_s
from paradigms_overview import overview

from kuberml.core.rng import rng
from kuberml.core.values import loads
from kuberml.learning.averaging import Mean
from kuberml.learning.datasets import set_data_root
from kuberml.learning.predictor import Network
from kuberml.scenario.config import parse
from kuberml.scenario.notes import KEPT, Note
from kuberml.scenario.play import Play
from kuberml.scenario.public_things import PublicThings
from kuberml.scenario.run import scorer, versions
from kuberml.scenario.spread import mean, percentile
from kuberml.scenario.summary import summarise
from kuberml.worlds.simulated.results import JobCache
from kuberml.worlds.simulated.workers import make_workers

GROUPS = {"grid": CELLS, "scale": SCALES, "liars": LIARS, "tune": TUNING, "smoke": SMOKE}
TRIES, ENOUGH, MOST = 4, 0.9, 4.0
TOLD = ("cell", "paradigm", "seed", "accuracy", "accuracy_p10", "accuracy_mean_model", "virtual_time_s", "bytes", "wall_s")


class Deaf:
    """Records nothing."""

    def record(self, event, **fields):
        """See the seam."""


class Sampled(Play):
    """A run of which only some learners are measured, drawn by lot: memory and time for those."""

    def watch_only(self, count):
        everybody = self.stage.learners
        chosen = np.sort(rng(self.seed, "measured").choice(len(everybody), min(count, len(everybody)), replace=False))
        self.sample = [everybody[place] for place in chosen.tolist()]
        self._names = {actor.node for actor in self.sample}
        if count < len(everybody):
            self.notes.add = self._note_few

    def _note_few(self, node, event, fields):
        """What is noted of thousands would fill the memory; a summary reads what the measured ones noted."""
        if node in self._names and event in KEPT:
            self.notes.all.append(Note(self._now_ns(), node, event, fields))

    def deployed(self, node, model, predictor, learned_at_ms):
        """See `exchange.place.Observer`."""
        if node in self._names:
            self.watch.deployed(node, model, predictor, learned_at_ms)

    def thin(self, test):
        """Measure the sample alone, each learner on part of the test set; the whole of it, for the mean model."""
        whole = dict(self.stage.tests)
        few = {domain: part(ref, test) for domain, ref in whole.items()}
        self.stage = altered(self.stage, learners=tuple(self.sample), tests=few)
        return whole


def part(ref, count):
    """So many of the samples, spread over them: they lie by label or in the data set's order, and stay balanced."""
    every = max(1, len(ref) // count)
    return msgspec.structs.replace(ref, indices_N=ref.indices_N[::every])


def measure(cell, label, seed, out, workers):
    """One run and all that is said of it, as plain data."""
    began = time.perf_counter()
    pool, left = make_workers(workers), out / "unfinished" / f"{cell.name}.{label}.{seed}.sqlite"
    left.parent.mkdir(parents=True, exist_ok=True)
    cache = JobCache(left)
    try:
        play, outcome = ran(cell, label, seed, pool, cache)
        whole = play.thin(cell.test)
        summary, score = summarise(play, outcome, scorer(pool)), scorer(pool)
        mean_model = accuracy_of_mean(play, whole, score)
    finally:
        pool.close()
        cache.close()
    for path in left.parent.glob(left.name + "*"):
        path.unlink()
    found = {
        "cell": cell.name, "paradigm": label, "seed": seed, "commit": commit(), "judge": cell.judge, "versions": versions(),
        "options": play.config.paradigms[label].options, "learners": cell.learners, "measured": len(play.sample),
        "accuracy": mean(summary.accuracy.values()), "accuracy_p10": percentile(list(summary.accuracy.values()), 10),
        "served": len(summary.accuracy), "accuracy_mean_model": mean_model, "accuracy_own": mean(summary.accuracy_own.values()),
        "accuracy_slow": summary.accuracy_slow, "accuracy_fast": summary.accuracy_fast,
        "virtual_time_s": summary.virtual_time_s, "bytes": play.moved_bytes(), "flops": summary.flops,
        "energy_j": summary.energy_j, "freshness_median_s": percentile(summary.freshness_s, 50),
        "freshness_p99_s": percentile(summary.freshness_s, 99),
        "curve": [[point.time_s, point.bytes, point.accuracy_mean] for point in summary.curve],
        "trace_hash": summary.trace_hash, "epochs": epochs_done(play), "wall_s": time.perf_counter() - began,
        "devices": summary.accuracy,
    }  # fmt: skip
    path = out / f"{cell.name}.{label}.{seed}.json"
    path.with_suffix(".part").write_text(json.dumps(found))
    path.with_suffix(".part").replace(path)
    return found


def ran(cell, label, seed, pool, cache):
    """A run on the cell's budget. Without rounds, time is what is given: where that was for far fewer or more epochs it is run
    again with as much more or less; the cache has what was done before.
    """
    tree = cell.tree(label, seed)
    for _ in range(TRIES):
        config = parse(tree)
        play = Sampled(config, label, seed, things=PublicThings(config), workers=pool, cache=cache, records=lambda *_: Deaf())
        play.watch_only(cell.measured)
        outcome, options = play.run(), tree["paradigms"][label]
        if "for_s" not in options or cell.for_s:
            break
        off = max(1, epochs_done(play)) / (cell.rounds * cell.learners)
        if ENOUGH <= off <= 1 / ENOUGH:
            break
        options["for_s"] *= min(MOST, max(1 / MOST, 1 / off))
    return play, outcome


def epochs_done(play):
    """By all learners together."""
    memories = [play.world.store(node).memory() for node, (role, _) in play.cast.items() if role == "peer"]
    return sum(loads(memory["round"]) for memory in memories if "round" in memory)


def accuracy_of_mean(play, tests, score):
    """Of the mean of the states that are served, on the whole test set; None where they are not of one network."""
    models = [play.watch.serving(actor.node, 1 << 62) for actor in play.sample]
    served = [play.watch.predictors[model] for model in models if model is not None]
    if not served or not all(isinstance(one, Network) and one.learner == served[0].learner for one in served):
        return None
    total = Mean()
    for one in served:
        total.add(one.state, 1.0)
    together = Network(served[0].learner, total.result(served[0].state))
    return mean(one.accuracy for one in score([(together, ref) for ref in tests.values()]))


def commit():
    """Of this working tree, with a + if it was changed; "" outside one."""
    at = Path(__file__).parent
    said = subprocess.run(["git", "describe", "--always", "--dirty=+"], cwd=at, capture_output=True, text=True, check=False)
    return said.stdout.strip()


def plan(args):
    """Every (cell, paradigm, seed) that was asked for: seed by seed, so that each slice leaves whole comparisons behind."""
    cells = [cell for group in args.group for cell in GROUPS[group].values() if not args.cells or cell.name in args.cells]
    for cell in cells:
        for seed in cell.seeds[: args.seeds]:
            for label in cell.paradigms or ALL:
                if not args.paradigms or label in args.paradigms:
                    yield cell, label, seed


def stop(*_):
    raise KeyboardInterrupt


def work(args):
    """One slice."""
    args.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 60 * args.minutes)
    try:
        for cell, label, seed in plan(args):
            if (args.out / f"{cell.name}.{label}.{seed}.json").exists():
                continue
            try:
                found = measure(cell, label, seed, args.out, args.workers)
            except Exception as error:  # one that breaks is named, and does not keep the others from being measured
                print(json.dumps({"cell": cell.name, "paradigm": label, "seed": seed, "failed": f"{error}"[:300]}), flush=True)
                continue
            print(json.dumps({name: found[name] for name in TOLD}), flush=True)
    except KeyboardInterrupt:
        print("the slice is over; the next one goes on here", flush=True)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def reckon(args):
    """The plan and its hours."""
    total_s, cells = 0.0, {}
    for cell, label, seed in plan(args):
        done = (args.out / f"{cell.name}.{label}.{seed}.json").exists()
        cost_s = 0.0 if done else reckoned_s(cell, label, args.workers, args.speed)
        row = cells.setdefault(cell.name, [0, 0, 0.0])
        row[0], row[1], row[2] = row[0] + 1, row[1] + done, row[2] + cost_s
        total_s += cost_s
    print(f"{'cell':16}{'runs':>6}{'done':>6}{'hours left':>12}")
    for name, (runs, done, cost_s) in cells.items():
        print(f"{name:16}{runs:6}{done:6}{cost_s / 3600:12.2f}")
    print(f"in all {total_s / 3600:.1f} h: {args.workers} workers, {args.speed} times the speeds of paradigms_cells.RATES")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/paradigms"))
    parser.add_argument("--data", type=Path, default=os.environ.get("KUBERML_DATA"))
    parser.add_argument("--group", nargs="+", choices=GROUPS, default=["grid", "scale"])
    parser.add_argument("--cells", nargs="+", default=[])
    parser.add_argument("--paradigms", nargs="+", default=[])
    parser.add_argument("--seeds", type=int, default=None, help="so many of each cell's seeds")
    parser.add_argument("--minutes", type=float, default=9.0, help="of one slice")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--speed", type=float, default=1.0, help="of this machine, for --dry-run: see paradigms_cells.RATES")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--overview", action="store_true")
    args = parser.parse_args()
    if args.data:
        set_data_root(Path(args.data))
    if args.overview:
        print(overview(args.out, {name: cell for group in GROUPS.values() for name, cell in group.items()}))
    elif args.dry_run:
        reckon(args)
    else:
        work(args)


if __name__ == "__main__":
    main()
