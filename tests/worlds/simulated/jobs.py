"""Jobs that tests run, here and on workers."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from kuberml.core.errors import MissingExtra
from kuberml.core.jobs import job
from kuberml.core.rng import rng
from kuberml.core.values import value


@value
class Model(msgspec.Struct, frozen=True):
    weights_NN: np.ndarray[Any, Any]


@job(flops=lambda model, seed: 2 * model.weights_NN.shape[0] ** 3)
def step(model: Model, seed: int) -> Model:
    """Some real floating point work: a few products of float32 matrices."""
    noise_NN = rng(seed, "noise").standard_normal(model.weights_NN.shape).astype(np.float32)
    return Model(np.tanh(model.weights_NN @ noise_NN / len(noise_NN)))


@job(flops=lambda flops: flops)
def work(flops: int) -> int:
    return flops


@job(flops=lambda flops: flops)
def impossible(flops: Any) -> None:
    """Its flops are what the test says."""


@job(flops=lambda folder, deaths: 1)
def dies(folder: str, deaths: int) -> int:
    """Kills its process the first `deaths` times."""
    tries = len(list(Path(folder).iterdir()))
    (Path(folder) / str(tries)).touch()
    if tries < deaths:
        os._exit(9)
    return tries


@job(flops=lambda: 1)
def environment() -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY")}


@job(flops=lambda: 1)
def process() -> int:
    return os.getpid()


@job(flops=lambda folder, count: 1)
def meets(folder: str, count: int) -> tuple[int, int, int, bool]:
    """Waits for so many processes, for a minute at most. (process, its parent, its threads, whether torch is imported)."""
    (Path(folder) / str(os.getpid())).touch()
    until_s = time.monotonic() + 60
    while len(list(Path(folder).iterdir())) < count and time.monotonic() < until_s:
        time.sleep(0.01)
    return os.getpid(), os.getppid(), len(os.listdir("/proc/self/task")), "torch" in sys.modules


@job(flops=lambda folder, number: 1)
def leaves_a_mark(folder: str, number: int) -> int:
    """Not pure, so that a test can count how often it ran."""
    marks = len(list(Path(folder).glob(f"{number}-*")))
    (Path(folder) / f"{number}-{marks}").touch()
    return number


@job(flops=lambda: 1)
def lacks_an_extra() -> None:
    raise MissingExtra("drawing", "report")


@job(flops=lambda: 1)
def touches_the_clock() -> bool:
    return time.time() > 0
