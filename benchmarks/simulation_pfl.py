"""Contender (d) of `simulation.py`: Apple's pfl, its simulation backend in one process with two torch threads."""

from __future__ import annotations

import importlib.metadata
import random
import time
from typing import Any

import numpy as np
import simulation_task
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.pytorch import PyTorchTensorDataset
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel


class WithLoss(torch.nn.Module):
    """A network with the two methods that pfl asks for."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def loss(self, x: torch.Tensor, y: torch.Tensor, **_: Any) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(self.network(x), y)

    def metrics(self, x: torch.Tensor, y: torch.Tensor, **_: Any) -> dict[str, Any]:
        return {}


class Stamps(TrainingProcessCallback):
    """Notes when a round has ended."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def after_central_iteration(self, aggregate_metrics: Any, model: Any, *, central_iteration: int) -> tuple[bool, Metrics]:
        self.stamps.append(time.time())
        return False, Metrics()


def main() -> None:
    task = simulation_task.read_task()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    np.random.seed(0)  # pfl draws from the global generator
    users = simulation_task.clients(task)

    def user(number: int) -> PyTorchTensorDataset:
        x, y = users[number]
        order = torch.randperm(len(y))
        return PyTorchTensorDataset((x[order], y[order]), user_id=str(number))

    data = FederatedDataset(user, lambda: random.randrange(task["clients"]))
    module = WithLoss(simulation_task.build(task))
    model = PyTorchModel(module, torch.optim.SGD, torch.optim.SGD(module.parameters(), 1.0))
    stamps = Stamps()
    FederatedAveraging().run(
        NNAlgorithmParams(task["rounds"], task["rounds"] + 1, task["cohort"], None),
        SimulatedBackend(data, data),
        model,
        NNTrainHyperParams(
            local_num_epochs=None, local_num_steps=task["steps"], local_learning_rate=task["lr"], local_batch_size=task["batch"]
        ),
        NNEvalHyperParams(local_batch_size=None),
        [stamps],
    )
    simulation_task.tell(stamps.stamps, f"pfl {importlib.metadata.version('pfl')}")


if __name__ == "__main__":
    main()
