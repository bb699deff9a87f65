"""The simulator beside others, in one run: same model, data, local steps and batch. Needs Fashion-MNIST in $KUBERML_DATA.

    export OMP_WAIT_POLICY=PASSIVE
    python benchmarks/simulation.py lenet --venvs ~/.cache/kuberml-peers --repeats 2    rounds of LeNet-5 (under 4 minutes)
    python benchmarks/simulation.py cnn --venvs ...                                     rounds of the FedAvg CNN, 1.66 M weights
    python benchmarks/simulation.py cnn --venvs ... --rounds 12 --only ours-2 flower    with start-up, twelve rounds
    python benchmarks/simulation.py flute --venvs ...      FLUTE's overhead test: 1,000 clients, 10 x 100 rounds, linear model
    python benchmarks/simulation.py many --learners 10000  learners of 61,706 weights: memory
    python benchmarks/simulation.py events                 the empty loop in virtual time: events a second
    python benchmarks/simulation.py flat --plot flat.png   cost per learner, from 100 to 10,000

Contenders: plain (a tight loop over one model, two threads), ours-1 and ours-2 (whole runs with one and two workers), flower
(its Ray engine, two actors of one core), pfl (two threads). Others model no devices and no links, so all of ours are alike: a
cohort's visits can then be done at the same time, while of unlike ones a later may not begin before an earlier ends.
They run in turn, `--repeats` times; ratios are medians of the ratios within a repeat, because the machine's speed drifts.
Peers live in environments that this script makes below `--venvs`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import simulation_scale
from simulation_runs import HERE, SOURCE, Ran, environment, run

from kuberml.learning.datasets import DATASETS
from kuberml.scenario.config import Config, parse
from kuberml.scenario.stage import set_stage

Task = dict[str, Any]

TASKS: dict[str, Task] = {
    "lenet": {"model": "lenet", "clients": 100, "cohort": 10, "rounds": 12, "steps": 10, "batch": 32, "lr": 0.05},
    "cnn": {"model": "cnn", "clients": 100, "cohort": 10, "rounds": 4, "steps": 10, "batch": 32, "lr": 0.05},
    "flute": {"model": "linear", "clients": 1000, "cohort": 10, "rounds": 100, "steps": 5, "batch": 10, "lr": 0.03},
}
SAMPLES = {"lenet": 400, "cnn": 400, "flute": 60}
"""Of each client; it holds one of each label out, on which our side measures accuracy. Nobody else measures any."""

CONTENDERS = ("plain", "ours-1", "ours-2", "flower", "pfl")


def scenario(task: Task, samples: int) -> str:
    """Our side of a task, as the file that `kuberml run` takes."""
    return f"""
name = "speed"
[data]
dataset = "fashion-mnist"
partition = "iid"
heldout = {10 / samples}
judge = "heldout"
limit = {task["clients"] * samples}
[learners]
count = {task["clients"]}
models = ["{task["model"]}"]
[train]
lr = {task["lr"]}
steps = {task["steps"]}
batch = {task["batch"]}
[places]
devices = "gateway"
links = "lan"
[world]
until_s = 1e8
curve_points = 1
target = 1.0
[paradigms.fedavg]
rounds = {task["rounds"]}
cohort = {task["cohort"] / task["clients"]}
"""


def prepare(task: Task, samples: int, folder: Path) -> None:
    """Write the scenario, and for the peers the same data, dealt in the same way."""
    import tomllib

    (folder / "speed.toml").write_text(scenario(task, samples))
    config: Config = parse(tomllib.loads(scenario(task, samples)))
    stage = set_stage(config, 0, common=True)
    part = DATASETS.get("fashion-mnist").part("train")
    owned = [actor.data.train.indices_N for actor in stage.learners if actor.data is not None]
    every = np.concatenate(owned)
    data = folder / "data.npz"
    x_N, y_N = np.asarray(part.x_N)[every].reshape(-1, 28, 28), np.asarray(part.y_N)[every]
    np.savez(data, x_N=x_N, y_N=y_N, ends=np.cumsum([len(indices) for indices in owned]))
    models = SOURCE / "kuberml/learning/torch_models.py"
    (folder / "task.json").write_text(json.dumps({**task, "data": str(data), "models": str(models)}))


def contender(name: str, folder: Path, venvs: Path) -> Ran:
    """Run one of CONTENDERS on the task in `folder`."""
    task = str(folder / "task.json")
    if name.startswith("ours"):
        command = [sys.executable, str(HERE / "simulation_ours.py"), task, str(folder / "speed.toml")]
        return run([*command, str(folder / "run"), name[-1]], folder)
    python = sys.executable if name == "plain" else str(environment(venvs, name))
    return run([python, str(HERE / f"simulation_{name}.py"), task], folder)


def side_by_side(slice_: str, options: argparse.Namespace) -> None:
    """All contenders in turn, then the table."""
    task = {**TASKS[slice_], **({"rounds": options.rounds} if options.rounds else {})}
    found: dict[str, list[Ran]] = {name: [] for name in options.only or CONTENDERS}
    with tempfile.TemporaryDirectory(prefix="kuberml-speed-") as name:
        folder = Path(name)
        prepare(task, SAMPLES[slice_], folder)
        for _ in range(options.repeats):
            for contestant, runs in found.items():
                runs.append(contender(contestant, folder, options.venvs))
                report(contestant, runs[-1])
    hashes = {ran.told["trace_hash"] for name, runs in found.items() if name.startswith("ours") for ran in runs}
    if len(hashes) > 1:
        raise SystemExit(f"runs of one scenario must have one trace hash, not {sorted(hashes)}")
    table(task, found)


def report(name: str, ran: Ran) -> None:
    times_s = f"first round after {ran.startup_s:.1f} s, warm {ran.warm_s:.3f} s, in all {ran.total_s:.1f} s"
    print(f"  {name}: {times_s}, CPU {ran.processor_s:.1f} s", flush=True)


def table(task: Task, found: dict[str, list[Ran]]) -> None:
    """Medians, and ratios within repeats: how many times as fast as the other."""
    samples = task["cohort"] * task["steps"] * task["batch"]
    others = [name for name in ("plain", "flower", "pfl") if name in found]
    print(f"\n{task['model']}, {task['rounds']} rounds of {task['cohort']} clients x {task['steps']} steps of {task['batch']}")
    heads = ("samples/s", "warm s", "start s", "total s", "CPU s", "MiB")
    print(f"{'':10}{''.join(f'{head:>10}' for head in heads)}  {'warm: times as fast as':<38}total")
    for name, runs in found.items():
        warm, start, total = (
            statistics.median(getattr(ran, f"{what}_s") for ran in runs) for what in ("warm", "startup", "total")
        )
        processor_s = statistics.median(ran.processor_s for ran in runs)
        memory_mib = max(ran.memory_bytes for ran in runs) / 2**20
        columns = [
            "  ".join(f"{other} {times(runs, found[other], what):.2f}" for other in others if other != name)
            for what in ("warm_s", "total_s")
        ]
        figures = f"{samples / warm:10.0f}{warm:10.3f}{start:10.1f}{total:10.1f}{processor_s:10.1f}{memory_mib:10.0f}"
        print(f"{name:10}{figures}  {columns[0]:<38}{columns[1]}   {runs[0].told['version']}")


def times(ours: list[Ran], theirs: list[Ran], what: str) -> float:
    """How many times as fast we are: the median of the ratios within repeats."""
    return statistics.median(getattr(their, what) / getattr(our, what) for our, their in zip(ours, theirs, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slice", choices=(*TASKS, *simulation_scale.SLICES))
    parser.add_argument(
        "--venvs", type=Path, default=Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "kuberml-peers"
    )
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=0, help="instead of the task's own number")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS)
    parser.add_argument("--learners", type=int, default=10_000, help="many: how many")
    parser.add_argument("--most", type=int, default=10_000, help="flat: up to how many")
    parser.add_argument("--plot", type=Path, help="flat: a PNG")
    options = parser.parse_args()
    alone: Callable[[argparse.Namespace], None] | None = simulation_scale.SLICES.get(options.slice)
    alone(options) if alone else side_by_side(options.slice, options)


if __name__ == "__main__":
    main()
