"""What every contender of `simulation.py` is given, in plain PyTorch: it runs in a peer's environment, where kuberml is not.

A task is a JSON file: model, rounds, clients, cohort (how many train in a round), steps, batch, lr, and two files: `data` (an
.npz with x_N uint8 [N, 28, 28], y_N, and where each client's part ends) and `models` (our own `torch_models.py`).
"""

from __future__ import annotations

import functools
import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

Task = dict[str, Any]


def read_task() -> Task:
    """The task that the command line names."""
    task: Task = json.loads(Path(sys.argv[1]).read_text())
    return task


def build(task: Task) -> torch.nn.Module:
    """The same architecture as ours, from our own file."""
    spec = importlib.util.spec_from_file_location("task_models", task["models"])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    built: torch.nn.Module = getattr(module, task["model"])((28, 28, 1), 10)
    return built


def clients(task: Task) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Every client's own images float32 [n, 1, 28, 28] and labels int64 [n]."""
    return read_clients(task["data"])


@functools.cache
def read_clients(path: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The same, once a process: also in a peer's own, which import this module by its name."""
    with np.load(path) as file:
        ends = file["ends"][:-1]
        parts = zip(np.split(file["x_N"], ends), np.split(file["y_N"], ends), strict=True)
        return [(torch.from_numpy(x).float().div_(255).unsqueeze(1), torch.from_numpy(y).long()) for x, y in parts]


def train(module: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, task: Task) -> None:
    """A local visit as everybody writes it: `steps` batches of new permutations, plain SGD."""
    optimizer = torch.optim.SGD(module.parameters(), task["lr"])
    batch, done = task["batch"], 0
    while done < task["steps"]:
        order = torch.randperm(len(y))
        for index in order.split(batch):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(x[index]), y[index]).backward()
            optimizer.step()
            done += 1
            if done == task["steps"]:
                return


def tell(stamps_s: list[float], version: str) -> None:
    """Print what was measured: when each round had ended, on `time.time`."""
    print(json.dumps({"stamps_s": stamps_s, "ended_s": time.time(), "version": version}), flush=True)
