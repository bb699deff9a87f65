"""From what single runs served to what is said over seeds: measures of continual learning, and the gap to joint training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from kuberml.learning.continual import measures
from kuberml.scenario import curves
from kuberml.scenario.run_summary import RunSummary
from kuberml.scenario.served_result import Continual, ServedResult, ServedRun
from kuberml.scenario.spread import deviation, mean, percentile

JOINT = "joint"
"""The paradigm that sees everything at once."""


def joint_label(by_label: Mapping[str, Sequence[RunSummary]], uses: Mapping[str, str]) -> str:
    """The joint training that gaps are measured to: the most accurate in the end. "": there is none."""
    found = {
        label: mean(float(np.mean(run.served.accuracy[-1])) for run in runs if run.served is not None)
        for label, runs in by_label.items()
        if uses[label] == JOINT
    }
    return max((label for label in found if found[label] is not None), key=lambda label: found[label] or 0.0, default="")


def combine_served(runs: Sequence[RunSummary], joint: str, joints: Sequence[RunSummary]) -> ServedResult | None:
    """What one paradigm served, over its seeds; None where nothing was, or there is no stream.

    Args:
        runs: of the paradigm.
        joint: label of the joint training, or "".
        joints: its runs.
    """
    served = [run.served for run in runs if run.served is not None]
    if not served:
        return None
    oracle = {run.seed: run.served for run in joints if run.served is not None}
    each = [continual(run.served, oracle.get(run.seed)) for run in runs if run.served is not None]
    columns = {name: [getattr(one, name) for one in each] for name in Continual.__struct_fields__}
    std = Continual(**{name: deviation(column) for name, column in columns.items()}) if len(each) > 1 else None
    curve, curve_std = curves.combine([one.curve for one in served])
    return ServedResult(
        whose=served[0].whose,
        tasks=served[0].tasks,
        period_s=served[0].period_s,
        joint=joint,
        mean=Continual(**{name: mean(column) for name, column in columns.items()}),
        std=std,
        accuracy=tuple(map(tuple, np.mean([one.accuracy for one in served], axis=0).tolist())),
        curve=curve,
        curve_std=curve_std,
    )


def continual(run: ServedRun, joint: ServedRun | None) -> Continual:
    """The measures of one run; `joint`: what joint training served under the same seed."""
    accuracy_TI, arrived_I = np.array(run.accuracy), np.array(run.arrived, np.int64)
    joint_I = None if joint is None else np.array(joint.accuracy[-1])
    found = measures(accuracy_TI, arrived_I, joint_I, np.array(run.untrained))
    on_the_way = [row[arrived_I <= t].mean() for t, row in enumerate(accuracy_TI)]
    known_s = [time_s for time_s in run.answered_s if time_s is not None]
    return Continual(
        **msgspec.structs.asdict(found),
        accuracy_on_the_way=float(np.mean(on_the_way)),
        answered_s=percentile(known_s, 50),
        unanswered=float(sum(time_s is None for time_s in run.answered_s)),
    )
