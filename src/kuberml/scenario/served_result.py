"""What is said of the served cloud model of a scenario with a stream: of one run, and over seeds.

Accuracies are shares from 0 to 1; every task counts alike, and within a task every label. Tables R[t][i] are the accuracy on
task i at the end of period t, also for tasks that nobody has met yet. A measure that cannot be taken is None.
"""

from __future__ import annotations

import msgspec


class ServedPoint(msgspec.Struct, frozen=True):
    """Where the served model stood at one time.

    Attributes:
        seen: accuracy on the tasks that some learner had met by then.
        every: accuracy on all tasks.
    """

    time_s: float
    seen: float
    every: float


class Continual(msgspec.Struct, frozen=True, kw_only=True):
    """Measures of one matrix of accuracies; see `learning.continual`.

    Attributes:
        accuracy: A_T, on all tasks met, at the end.
        accuracy_on_the_way: the same at the end of each period, over the tasks met until then; their mean.
        gap_to_joint: of A_T to the best joint training of the same seed.
        answered_s: median over tasks of the time from the first arrival of the task anywhere to the first model served that is
            right about it more often than not; 0 where it was before.
        unanswered: tasks of which no served model was ever right more often than not.
    """

    accuracy: float | None = None
    accuracy_on_the_way: float | None = None
    backward_transfer: float | None = None
    forgetting: float | None = None
    forward_transfer: float | None = None
    gap_to_joint: float | None = None
    answered_s: float | None = None
    unanswered: float | None = None


class ServedRun(msgspec.Struct, frozen=True, kw_only=True):
    """What one paradigm served under one seed, as it was measured.

    Attributes:
        whose: "server", or "learners": the mean over what honest learners serve, where no server serves anything.
        tasks: their names.
        period_s: from one task to the next; arrived: in which period (from 0) the first learner met each task.
        accuracy: R[t][i].
        answered_s: per task, see `Continual`; None: never.
        curve: over time, from the first model served on.
    """

    whose: str
    tasks: tuple[str, ...]
    period_s: float
    arrived: tuple[int, ...]
    accuracy: tuple[tuple[float, ...], ...]
    answered_s: tuple[float | None, ...]
    untrained: tuple[float, ...]
    curve: tuple[ServedPoint, ...] = ()


class ServedResult(msgspec.Struct, frozen=True, kw_only=True):
    """Over seeds: `mean` and `std` (None for one seed).

    Attributes:
        joint: label of the joint training that gaps are measured to; "": the scenario has none.
        accuracy: R[t][i], mean over seeds.
        curve, curve_std: over time.
    """

    whose: str
    tasks: tuple[str, ...]
    period_s: float
    joint: str
    mean: Continual
    std: Continual | None
    accuracy: tuple[tuple[float, ...], ...]
    curve: tuple[ServedPoint, ...] = ()
    curve_std: tuple[ServedPoint, ...] | None = None
