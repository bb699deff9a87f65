"""Contender (c) of `simulation.py`: Flower's simulation engine on Ray, two actors of one core and one torch thread each."""

from __future__ import annotations

import os
import time
from typing import Any

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"

import flwr
import simulation_task
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

TASK = simulation_task.read_task()
client, server, stamps = ClientApp(), ServerApp(), []


@client.train()
def train(message: Message, context: Context) -> Message:
    task = TASK
    torch.set_num_threads(1)
    x, y = simulation_task.read_clients(task["data"])[int(context.node_config["partition-id"])]
    module = simulation_task.build(task)
    module.load_state_dict(message.content["arrays"].to_torch_state_dict())
    simulation_task.train(module, x, y, task)
    content = {"arrays": ArrayRecord(module.state_dict()), "metrics": MetricRecord({"num-examples": len(y)})}
    return Message(content=RecordDict(content), reply_to=message)


class Stamped(FedAvg):
    """FedAvg that notes when a round's answers have been averaged. Flower would go on without those that failed: here not."""

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        replies = list(replies)
        if len(replies) < TASK["cohort"] or any(reply.has_error() for reply in replies):
            raise RuntimeError(f"round {server_round}: {[reply.error for reply in replies if reply.has_error()][:1]}")
        found = super().aggregate_train(server_round, replies)
        stamps.append(time.time())
        return found


@server.main()
def main(grid: Grid, context: Context) -> None:
    share = TASK["cohort"] / TASK["clients"]
    strategy = Stamped(
        fraction_train=share, fraction_evaluate=0.0, min_train_nodes=TASK["cohort"], min_available_nodes=TASK["clients"]
    )
    strategy.start(grid=grid, initial_arrays=ArrayRecord(simulation_task.build(TASK).state_dict()), num_rounds=TASK["rounds"])


if __name__ == "__main__":
    resources = {"init_args": {"num_cpus": 2}, "client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
    run_simulation(server, client, num_supernodes=TASK["clients"], backend_config=resources)
    simulation_task.tell(stamps, f"flwr {flwr.__version__}")
