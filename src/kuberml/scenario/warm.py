"""Let worker processes start, and import torch, while this process still sets the stage; it then needs no torch itself.

Importing torch takes longer than all else before a small run begins. Two figures of a network are all that a process that
never trains needs of it: a worker measures them. They are the same wherever they are measured.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from kuberml.core.values import dumps
from kuberml.learning.adapters import torch_learner
from kuberml.learning.datasets import DATASETS
from kuberml.learning.jobs import measure
from kuberml.learning.torch_learner import MEASURED
from kuberml.paradigms import PARADIGMS
from kuberml.scenario.config import Config
from kuberml.scenario.options import paradigm_of
from kuberml.worlds.simulated.workers import Here, Pool, Workers, open_reply


def warm(config: Config, pool: Workers) -> Callable[[], None]:
    """Hand in one measurement for each worker, if the scenario is sure to train networks; returns what undoes it."""
    chosen = config.learners
    averaging = (getattr(paradigm_of(one.use, PARADIGMS), "COMMON_MODEL", False) for one in config.paradigms.values())
    if isinstance(pool, Here) or chosen.adapter != "torch" or not any(averaging):
        return lambda: None
    dataset, keys = DATASETS.get(config.data.dataset), []
    names = sorted({*chosen.models, config.common_model})
    for place in range(max(len(names), pool.count)):
        architecture = names[place % len(names)]
        learner = torch_learner(architecture, dataset, dict(chosen.options.get(architecture, {})), chosen.device)
        hand_in = pool.prime if isinstance(pool, Pool) and not place else pool.submit
        ticket = hand_in(dumps([measure.job_name, [learner]]))  # type: ignore[attr-defined]  # a job
        if place < len(names):
            keys.append(dumps(learner))
            MEASURED[keys[-1]] = functools.cache(lambda ticket=ticket: open_reply(pool.result(ticket)))

    def undo() -> None:
        for key in keys:
            MEASURED.pop(key, None)

    return undo
