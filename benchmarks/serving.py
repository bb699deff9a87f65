"""What engines are worth on this CPU: trained models, an engine a process, slices in turn, ratios of medians.

    KUBERML_DATA=data python benchmarks/serving.py --weights weights --train          # once: minutes; again goes on
    KUBERML_DATA=data python benchmarks/serving.py --weights weights --json serving.json [--compiled]

Each model by itself, so that each run is short: `--models resnet18`, then `--models encoder`; `--json` keeps what is there.

Models: ResNet-18 as it is used on small images (11.2M weights) and an encoder of 6 layers over 49 patches (d = 256, 4.7M), both
on Fashion-MNIST, which both learn in minutes on two cores (CIFAR-10 they do not). Engines: *eager* (torch, fp32, no tricks),
*default* (what `build` takes by itself) and every other one that this CPU admits, so that *best* is the fastest of those that
stay within a point. Latency is of one sample, p50 and p99 of all calls; throughput is of batches of 32. Accuracy is on test
images that no engine was calibrated with.

Every engine has a process of its own, and only one of them works at a time: in one process the threads of several runtimes
are in each other's way, and eager torch was 2.4 times as slow as by itself.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from serving_models import PLANS, SHAPE, learner_of, part, train

from kuberml.core.errors import ConfigError
from kuberml.learning.predictor import Network
from kuberml.learning.types import Array
from kuberml.serving.engines import Engine, build
from kuberml.serving.engines.cpu import this_cpu, threads_here
from kuberml.serving.engines.plan import candidates

BOUND = 0.01
SLICE_S = 0.5
EAGER, DEFAULT = "eager fp32", "default"


class Plain:
    """Eager torch in fp32 as anybody would write it: one module, contiguous images, no gradients."""

    name, precision, why = "eager", "fp32", "the base of all ratios"

    def __init__(self, model: str, state: Array) -> None:
        from kuberml.learning.torch_forms import network_form

        self.module = network_form(learner_of(model), state).module

    def predict(self, x_N: Array) -> Array:
        with torch.inference_mode():
            x = torch.from_numpy(np.array(x_N)).permute(0, 3, 1, 2).contiguous()
            return torch.log_softmax(self.module(x), 1).numpy()


def engine_of(name: str, model: str, folder: Path, count: int) -> Engine | Plain:
    """An engine by its name in the table. Raises ConfigError: it cannot be taken here."""
    state = np.fromfile(folder / f"{model}.f32", np.float32)
    if name == EAGER:
        return Plain(model, state)
    wish = {} if name == DEFAULT else dict(zip(("engine", "precision"), name.split(), strict=True))
    predictor = Network(learner_of(model), state)
    return build(predictor, SHAPE, calibration=part("test", 0, 2 * count), bound=BOUND, **wish)  # type: ignore[arg-type]


def work(name: str, model: str, folder: Path, count: int, wire: Connection) -> None:
    """A process: builds an engine, says how that went, and answers what it is asked until nothing more comes."""
    try:
        engine = engine_of(name, model, folder, count)
    except ConfigError as error:
        wire.send({"refused": str(error)})
        return
    wire.send({"engine": f"{engine.name} {engine.precision}", "why": f"{engine.why}; {engine.others}".removesuffix("; ")})
    x_N = part("test", 2 * count, 4 * count).x_N
    while (rows := wire.recv()) is not None:
        if not rows:
            wire.send(engine.predict(x_N).argmax(1))
            continue
        took, stop_s = [], time.perf_counter() + SLICE_S
        while time.perf_counter() < stop_s:
            start_s = time.perf_counter()
            engine.predict(x_N[:rows])
            took.append(time.perf_counter() - start_s)
        wire.send(took)


@contextmanager
def engines(model: str, wish: argparse.Namespace) -> Iterator[tuple[dict[str, Connection], dict[str, str], dict[str, str]]]:
    """A process for every engine that this CPU admits: how to reach each, what each is, and why others are not there."""
    spawn, processes = multiprocessing.get_context("spawn"), []
    found: dict[str, Connection] = {}
    what: dict[str, str] = {}
    refused: dict[str, str] = {}
    plans = candidates(this_cpu()) + candidates(this_cpu(), precision="int8-reduced")
    names = [f"{one.engine} {one.precision}" for one in plans if wish.compiled or one.engine != "compiled"]
    for name in dict.fromkeys([EAGER, DEFAULT, *names]):
        here, there = spawn.Pipe()
        process = spawn.Process(target=work, args=(name, model, wish.weights, wish.count, there), daemon=True)
        process.start()
        processes.append(process)
        said = here.recv()  # one is built after the other: each has the machine to itself
        if "refused" in said:
            refused[name] = said["refused"]
        else:
            found[name], what[name] = here, said["engine"]
    try:
        yield found, what, refused
    finally:
        for wire in found.values():
            wire.send(None)
        for process in processes:
            process.join()


def measure(found: dict[str, Connection], seconds: float) -> dict[str, dict[str, float]]:
    took: dict[str, dict[int, list[float]]] = {name: {1: [], 32: []} for name in found}
    for wire in found.values():  # warm
        for rows in (1, 32):
            asked(wire, rows)
    until_s = time.perf_counter() + seconds
    while time.perf_counter() < until_s:
        for name, wire in found.items():
            for rows in (1, 32):
                took[name][rows] += asked(wire, rows)
    return {
        name: {
            "p50_ms": 1e3 * float(np.median(each[1])), "p99_ms": 1e3 * float(np.quantile(each[1], 0.99)), "calls": len(each[1]),
            "rows_per_s": 32 / float(np.median(each[32])),
        }
        for name, each in took.items()
    }  # fmt: skip


def asked(wire: Connection, rows: int) -> Any:
    """Seconds of each call of one slice; 0 rows: labels of all held-out images."""
    wire.send(rows)
    return wire.recv()


def run(model: str, wish: argparse.Namespace) -> dict[str, object]:
    if not (wish.weights / f"{model}.f32").is_file():
        raise SystemExit(f"there are no weights of {model} in {wish.weights}: run with --train first")
    y_N = part("test", 2 * wish.count, 4 * wish.count).y_N
    with engines(model, wish) as (found, what, refused):
        speed = measure(found, wish.seconds)
        answers = {name: asked(wire, 0) for name, wire in found.items()}
    base, rows = speed[EAGER], {}
    for name in found:
        rows[name] = {
            "engine": what[name], **speed[name],
            "x_alone": base["p50_ms"] / speed[name]["p50_ms"], "x_batch": speed[name]["rows_per_s"] / base["rows_per_s"],
            "agreement": float((answers[name] == answers[EAGER]).mean()), "accuracy": float((answers[name] == y_N).mean()),
        }  # fmt: skip
    fit = {name: row for name, row in rows.items() if rows[EAGER]["accuracy"] - row["accuracy"] <= BOUND}
    best = max(fit, key=lambda name: fit[name]["x_alone"])
    return {"engines": rows, "best": best, "refused": refused, "held_out": len(y_N)}


def show(model: str, result: dict[str, object]) -> None:
    print(f"\n{model}: {result['held_out']} held-out images; best alone: {result['best']}")
    print(f"{'':24}{'engine':24}{'p50 ms':>8}{'p99 ms':>8}{'x':>6}{'rows/s':>8}{'x':>6}{'agree':>8}{'accuracy':>9}")
    for name, row in result["engines"].items():  # type: ignore[attr-defined]
        print(
            f"{name:24}{row['engine']:24}{row['p50_ms']:8.2f}{row['p99_ms']:8.2f}{row['x_alone']:6.2f}{row['rows_per_s']:8.0f}"
            f"{row['x_batch']:6.2f}{row['agreement']:8.4f}{row['accuracy']:9.4f}"
        )
    for name, why in result["refused"].items():  # type: ignore[attr-defined]
        print(f"refused {name}: {why}")


def keep(file: Path, model: str, result: dict[str, object]) -> None:
    """Write a model's figures beside those of others that are there."""
    before = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({**before, model: result}, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="folder where trained weights are kept")
    parser.add_argument("--train", action="store_true", help="train and keep the weights, and measure nothing")
    parser.add_argument("--models", nargs="+", default=list(PLANS), choices=list(PLANS))
    parser.add_argument("--steps", type=int, default=0, help="of training; 0: as planned")
    parser.add_argument("--batch", type=int, default=0, help="of training; 0: as planned")
    parser.add_argument("--seconds", type=float, default=60.0, help="of measuring, for each model")
    parser.add_argument("--count", type=int, default=1000, help="samples for each of: ranges, proof; twice that held out")
    parser.add_argument("--compiled", action="store_true", help="take in torch.compile: a minute more for each model")
    parser.add_argument("--json", type=Path, help="write the figures here")
    wish = parser.parse_args()
    if wish.train:
        for model in wish.models:
            train(model, wish.weights, wish.steps or PLANS[model].steps, wish.batch or PLANS[model].batch)
        return
    here = {
        "cpu": sorted(this_cpu().flags),
        "machine": platform.machine(),
        "threads": threads_here(),
        "torch": torch.__version__,
    }
    print(json.dumps(here))
    for model in wish.models:
        result = run(model, wish)
        show(model, result)
        if wish.json:
            keep(wish.json, model, {"here": here, **result})


if __name__ == "__main__":
    main()
