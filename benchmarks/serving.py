"""What engines are worth on this CPU: trained models, one process, interleaved slices, ratios of medians.

    KUBERML_DATA=data python benchmarks/serving.py --weights weights --train          # once: minutes; again goes on
    KUBERML_DATA=data python benchmarks/serving.py --weights weights --json serving.json [--compiled]

Each model by itself, so that each run is short: `--models resnet18`, then `--models encoder`; `--json` keeps what is there.

Models: ResNet-18 as it is used on small images (11.2M weights) and an encoder of 6 layers over 49 patches (d = 256, 4.7M), both
on Fashion-MNIST, which both learn in minutes on two cores (CIFAR-10 they do not). Engines: *eager* (torch, fp32, no tricks),
*default* (what `build` takes by itself) and every other one that this CPU admits, so that *best* is the fastest of those that
stay within a point. Latency is of one sample, p50 and p99 of all calls; throughput is of batches of 32. Accuracy is on test
images that no engine was calibrated with.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from kuberml.core.errors import ConfigError
from kuberml.learning.datasets import DATASETS, samples
from kuberml.learning.models import MODELS
from kuberml.learning.predictor import Network
from kuberml.learning.torch_learner import TorchLearner
from kuberml.learning.types import Array, DataRef, FitPlan, Samples
from kuberml.serving.engines import Engine, build
from kuberml.serving.engines.cpu import this_cpu, threads_here
from kuberml.serving.engines.plan import candidates

DATA, SHAPE = "fashion-mnist", (28, 28, 1)
PLANS = {
    "resnet18": FitPlan(lr=0.05, steps=300, batch=64, momentum=0.9),
    "encoder": FitPlan(lr=0.01, steps=500, batch=64, momentum=0.9),
}
BOUND = 0.01
SLICE_S = 0.5
STEPS = 20


class Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip
        same = stride == 1 and before == after
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet18(shape: tuple[int, ...], classes: int) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(shape[2], 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    before = 64
    for stage, width in enumerate((64, 128, 256, 512)):
        layers += [Block(before, width, 2 if stage else 1), Block(width, width, 1)]
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm, self.mixed, self.out, self.heads = (
            nn.LayerNorm(width),
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
            heads,
        )

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.mixed(self.norm(x)).chunk(3, dim=2)
        )
        return self.out(nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = Attention(width, 8)
        self.inner = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        return x + self.inner(x)


class Encoder(nn.Module):
    def __init__(self, shape: tuple[int, ...], classes: int, width: int = 256, layers: int = 6, patch: int = 4) -> None:
        super().__init__()
        self.cut = nn.Conv2d(shape[2], width, patch, patch)
        self.place = nn.Parameter(0.02 * torch.randn(1, (shape[0] // patch) * (shape[1] // patch), width))
        self.layers = nn.Sequential(*(Layer(width) for _ in range(layers)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, classes))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.cut(x).flatten(2).transpose(1, 2) + self.place
        return self.head(self.layers(tokens).mean(1))


MODELS.add("resnet18", lambda: resnet18)
MODELS.add("encoder", lambda: Encoder)


def learner_of(model: str) -> TorchLearner:
    return TorchLearner(model, SHAPE, DATASETS.get(DATA).labels)


def part(split: str, start: int, stop: int) -> Samples:
    return samples(DataRef(DATA, split, np.arange(start, stop, dtype=np.int32)))


def train(model: str, folder: Path, steps: int, batch: int) -> None:
    learner, plan = learner_of(model), PLANS[model]
    data = part("train", 0, 25_000)
    folder.mkdir(parents=True, exist_ok=True)
    weights, done = folder / f"{model}.f32", folder / f"{model}.rounds"
    begun = int(done.read_text()) if done.is_file() else 0  # stopped on the way: it goes on there
    state, began_s = np.fromfile(weights, np.float32) if begun else learner.init(0), time.perf_counter()
    rounds = math.ceil(steps / STEPS)
    for each in range(begun, rounds):  # a falling rate, and something to see
        rate = plan.lr * (1 - each / rounds)
        state = learner.fit(state, data, FitPlan(lr=rate, steps=STEPS, batch=batch, momentum=plan.momentum), seed=each)
        print(f"{model}: {STEPS * (each + 1)} steps, {time.perf_counter() - began_s:.0f} s", flush=True)
        state.tofile(weights)
        done.write_text(str(each + 1))


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


def engines(model: str, state: Array, calibration: Samples, compiled: bool) -> tuple[dict[str, Engine], dict[str, str]]:
    predictor = Network(learner_of(model), state)
    found: dict[str, Engine] = {"eager fp32": Plain(model, state)}
    refused: dict[str, str] = {}
    default = build(predictor, SHAPE, calibration=calibration)
    for one in candidates(this_cpu()) + candidates(this_cpu(), precision="int8-reduced"):
        name = f"{one.engine} {one.precision}"
        if name == "eager fp32" or name in found or (one.engine == "compiled" and not compiled):
            continue
        try:
            found[name] = build(
                predictor, SHAPE, engine=one.engine, precision=one.precision, calibration=calibration, bound=BOUND
            )
        except ConfigError as error:
            refused[name] = str(error)
    return {"default": default, **found}, refused


def measure(found: dict[str, Engine], x_N: Array, seconds: float) -> dict[str, dict[str, float]]:
    took: dict[str, dict[int, list[float]]] = {name: {1: [], 32: []} for name in found}
    for engine in found.values():
        for count in (1, 32):
            engine.predict(x_N[:count])
    until_s = time.perf_counter() + seconds
    while time.perf_counter() < until_s:
        for name, engine in found.items():
            for count in (1, 32):
                stop_s = time.perf_counter() + SLICE_S
                while time.perf_counter() < stop_s:
                    start_s = time.perf_counter()
                    engine.predict(x_N[:count])
                    took[name][count].append(time.perf_counter() - start_s)
    return {
        name: {
            "p50_ms": 1e3 * float(np.median(each[1])), "p99_ms": 1e3 * float(np.quantile(each[1], 0.99)), "calls": len(each[1]),
            "rows_per_s": 32 / float(np.median(each[32])),
        }
        for name, each in took.items()
    }  # fmt: skip


def run(model: str, folder: Path, seconds: float, count: int, compiled: bool) -> dict[str, object]:
    file = folder / f"{model}.f32"
    if not file.is_file():
        raise SystemExit(f"there are no weights {file}: run with --train first")
    state = np.fromfile(file, np.float32)
    calibration, held_out = part("test", 0, 2 * count), part("test", 2 * count, 4 * count)
    found, refused = engines(model, state, calibration, compiled)
    speed = measure(found, held_out.x_N, seconds)
    answers = {name: engine.predict(held_out.x_N) for name, engine in found.items()}
    rows = {}
    for name, engine in found.items():
        base = speed["eager fp32"]
        rows[name] = {
            "engine": f"{engine.name} {engine.precision}", **speed[name],
            "x_alone": base["p50_ms"] / speed[name]["p50_ms"], "x_batch": speed[name]["rows_per_s"] / base["rows_per_s"],
            "agreement": float((answers[name].argmax(1) == answers["eager fp32"].argmax(1)).mean()),
            "accuracy": float((answers[name].argmax(1) == held_out.y_N).mean()),
        }  # fmt: skip
    fit = {name: row for name, row in rows.items() if rows["eager fp32"]["accuracy"] - row["accuracy"] <= BOUND}
    best = max(fit, key=lambda name: fit[name]["x_alone"])
    return {"engines": rows, "best": best, "refused": refused, "why_default": found["default"].why, "held_out": len(held_out)}


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
        result = run(model, wish.weights, wish.seconds, wish.count, wish.compiled)
        show(model, result)
        if wish.json:
            keep(wish.json, model, {"here": here, **result})


if __name__ == "__main__":
    main()
