"""Small made-up scenarios and runs for the tests of what is around a run."""

from __future__ import annotations

import numpy as np

from kuberml.core.rng import rng
from kuberml.scenario.config import Config, parse
from kuberml.scenario.run_summary import CurvePoint, Decision, RunSummary

LABELS = tuple("0123456789")


def config(seeds=3, paradigms=("local", "fedavg", "kuber-statistics"), **tables) -> Config:
    uses = {"kuber-statistics": "kuber", "kuber-mixed": "kuber"}
    tree = {"name": "demo", "seeds": seeds, **tables}
    return parse({**tree, "paradigms": {label: {"use": uses.get(label, label)} for label in paradigms}})


def run(paradigm="local", seed=0, *, top=0.5, learners=6, liars=("n5",), size_bytes=1000, **changes) -> RunSummary:
    draw = rng(seed, "factory", paradigm)
    nodes = [f"n{i}" for i in range(learners)]
    accuracy = {node: float(np.clip(top + draw.normal(0, 0.01), 0, 1)) for node in nodes}
    before = dict.fromkeys(nodes, 0.3)
    mean = float(np.mean([accuracy[node] for node in nodes if node not in liars]))
    curve = tuple(CurvePoint(10.0 * i, size_bytes * i / 5, 0.3 + (mean - 0.3) * i / 5, 2.0 * i) for i in range(6))
    recall = {node: {label: float(draw.uniform(0.5, 1)) for label in LABELS} for node in nodes}
    recall_before = {node: {label: 0.9 * (int(label) % 3 == i % 3) for label in LABELS} for i, node in enumerate(nodes)}
    fields = {
        "paradigm": paradigm,
        "seed": seed,
        "trace_hash": f"{seed:064x}",
        "accuracy": accuracy,
        "accuracy_own": accuracy,
        "accuracy_before": before,
        "recall": recall,
        "recall_before": recall_before,
        "liars": tuple(liars),
        "virtual_time_s": 50.0,
        "bytes_moved": size_bytes,
        "energy_j": 10.0,
        "flops": 10**9,
        "freshness_s": (1.0, 2.0, 3.0),
        "latency_ms": (0.5, 0.7, 0.9),
        "curve": curve,
        "decisions": decisions(nodes) if paradigm.startswith("kuber") else (),
    }
    return RunSummary(**{**fields, **changes})


def decisions(nodes) -> tuple[Decision, ...]:
    return (
        Decision(
            1.0,
            nodes[0],
            nodes[1],
            "tested",
            "better on 12 of my own samples",
            "statistics",
            ("1", "4"),
            5000,
            {"1": 0.4},
            0.02,
        ),
        Decision(
            2.0, nodes[0], nodes[2], "on credit", "two other holders confirm", "statistics", ("2",), 5000, {"2": 0.6}, 0.03
        ),
        Decision(
            3.0, nodes[0], nodes[5], "refused", "own labels got worse by 0.2", "statistics", ("3",), 5000, {"0": -0.2}, -0.1
        ),
        Decision(4.0, nodes[1], nodes[0], "not chosen", "over the budget", "weights", ("0",), 90000),
    )


def runs(seeds=3, **tops) -> list[RunSummary]:
    tops = tops or {"local": 0.3, "fedavg": 0.6, "kuber-statistics": 0.9}
    return [run(paradigm, seed, top=top) for paradigm, top in tops.items() for seed in range(seeds)]
