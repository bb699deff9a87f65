"""The training engine against the loop that everybody writes: `OMP_WAIT_POLICY=PASSIVE python benchmarks/engine.py` (a minute).

Every learner has its own weights; a visit is 4 steps of SGD on batches of 32 of its 28x28 images. "naive" keeps a module and an
optimizer for each learner and runs zero_grad, backward, step on NCHW batches, with 1 and 2 torch threads. "engine" is
`TorchLearner.fit` as jobs call it: swapping states in and out and drawing batches are inside. "2 processes": on two cores.
All are measured in turn, in slices; shown are medians over the rounds, and quartiles of the ratio within a round. On a busy
machine only the last column, samples per second of processor time, means anything, and only for one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch

from kuberml.core.rng import rng
from kuberml.learning.models import build
from kuberml.learning.torch_learner import TorchLearner
from kuberml.learning.types import FitPlan, Samples

LEARNERS, SAMPLES, STEPS, BATCH, LR = 8, 256, 4, 32, 0.01
LABELS, SHAPE = tuple("0123456789"), (28, 28, 1)


def images() -> Samples:
    draw = rng(0, "benchmark")
    return Samples(draw.random((SAMPLES, *SHAPE), np.float32), draw.integers(0, 10, SAMPLES), LABELS)


def naive(architecture: str) -> Callable[[int], None]:
    modules = [build(architecture, SHAPE, 10) for _ in range(LEARNERS)]
    optimizers = [torch.optim.SGD(module.parameters(), LR) for module in modules]
    data = images()
    x, y = torch.tensor(data.x_N).reshape(SAMPLES, 1, 28, 28), torch.tensor(data.y_N)
    generator = torch.Generator().manual_seed(0)

    def visit(number: int) -> None:
        module, optimizer = modules[number % LEARNERS], optimizers[number % LEARNERS]
        order = torch.randperm(SAMPLES, generator=generator)
        for step in range(STEPS):
            index = order[step * BATCH : (step + 1) * BATCH]
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(x[index]), y[index]).backward()
            optimizer.step()

    return visit


def engine(architecture: str, *, bf16: bool = False) -> Callable[[int], None]:
    learner = TorchLearner(architecture, SHAPE, LABELS)
    states = [learner.init(seed) for seed in range(LEARNERS)]
    data, plan = images(), FitPlan(lr=LR, steps=STEPS, batch=BATCH, bf16=bf16)

    def visit(number: int) -> None:
        states[number % LEARNERS] = learner.fit(states[number % LEARNERS], data, plan, number)

    return visit


Rate = tuple[float, float]
"""Samples a second of the clock, and of processor time."""


def rate(visit: Callable[[int], None], slice_s: float) -> Rate:
    """Of one slice; the first visit warms up and is not counted."""
    visit(0)
    start, processor, number = time.perf_counter(), time.process_time(), 1
    while time.perf_counter() - start < slice_s:
        visit(number)
        number += 1
    done = (number - 1) * STEPS * BATCH
    return done / (time.perf_counter() - start), done / (time.process_time() - processor)


_kept: dict[tuple[str, bool], Callable[[int], None]] = {}


def remote_rate(architecture: str, bf16: bool, slice_s: float) -> Rate:
    torch.set_num_threads(1)
    if (architecture, bf16) not in _kept:
        _kept[architecture, bf16] = engine(architecture, bf16=bf16)
    return rate(_kept[architecture, bf16], slice_s)


def rounds(architecture: str, slices: int, slice_s: float, pool: ProcessPoolExecutor) -> dict[str, list[Rate]]:
    plain, ours, rounded = naive(architecture), engine(architecture), engine(architecture, bf16=True)

    def threads(count: int, visit: Callable[[int], None]) -> Rate:
        torch.set_num_threads(count)
        return rate(visit, slice_s)

    def both(bf16: bool) -> Rate:
        one, two = pool.map(remote_rate, [architecture] * 2, [bf16] * 2, [slice_s] * 2)
        return one[0] + two[0], (one[1] + two[1]) / 2

    contenders: dict[str, Callable[[], Rate]] = {
        "naive, 2 threads": lambda: threads(2, plain),
        "naive, 1 thread": lambda: threads(1, plain),
        "engine, 1 thread": lambda: threads(1, ours),
        "engine, 1 thread, bf16": lambda: threads(1, rounded),
        "engine, 2 processes": lambda: both(False),
        "engine, 2 processes, bf16": lambda: both(True),
    }
    found: dict[str, list[Rate]] = {name: [] for name in contenders}
    for number in range(slices + 1):
        for name, contender in contenders.items():
            measured = contender()
            if number:  # the first round loads libraries and fills caches
                found[name].append(measured)
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--slices", type=int, default=7)
    options.add_argument("--slice-s", type=float, default=0.35)
    chosen = options.parse_args()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for architecture, title in (("lenet", "LeNet-5"), ("cnn", "FedAvg CNN")):
            found = rounds(architecture, chosen.slices, chosen.slice_s, pool)
            print(f"\n{title:28}{'samples/s':>10}   to naive on 2 threads    to naive on 1 thread     the same by CPU time")
            two, one = found["naive, 2 threads"], found["naive, 1 thread"]
            for name, measured in found.items():
                columns = [compared(measured, two, 0), compared(measured, one, 0), compared(measured, one, 1)]
                print(f"{name:28}{statistics.median(wall for wall, _ in measured):10.0f}   {'   '.join(columns)}")


def compared(ours: list[Rate], theirs: list[Rate], which: int) -> str:
    """Median and quartiles of the ratios within a round."""
    ratios = [mine[which] / other[which] for mine, other in zip(ours, theirs, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{middle:5.2f} ({low:5.2f} to {high:5.2f})"


if __name__ == "__main__":
    main()
