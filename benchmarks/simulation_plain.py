"""Contender (a) of `simulation.py`: a tight loop over one model, two torch threads; a "round" is as many steps."""

from __future__ import annotations

import time

import torch
from simulation_task import build, clients, read_task, tell


def main() -> None:
    task = read_task()
    torch.set_num_threads(task.get("threads", 2))
    torch.manual_seed(0)
    x, y = (torch.cat(parts) for parts in zip(*clients(task)[: task["cohort"]], strict=True))
    module, stamps = build(task), []
    optimizer = torch.optim.SGD(module.parameters(), task["lr"])
    for _ in range(task["rounds"]):
        for _ in range(task["cohort"] * task["steps"]):
            index = torch.randint(len(y), (task["batch"],))
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(x[index]), y[index]).backward()
            optimizer.step()
        stamps.append(time.time())
    tell(stamps, f"torch {torch.__version__}")


if __name__ == "__main__":
    main()
