"""The served cloud model along a run with a stream: what it answered when, on what was met by then and on everything.

What is served is the server's predictor; where a paradigm has no server that serves, the mean over its honest learners.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from kuberml.core.ids import Digest
from kuberml.core.units import NS, to_ns
from kuberml.learning.types import DataRef
from kuberml.learning.views import chosen
from kuberml.scenario.measure import Board
from kuberml.scenario.played import Played
from kuberml.scenario.served_result import ServedPoint, ServedRun
from kuberml.scenario.stage import SERVER
from kuberml.scenario.stream import order_of

TEST_SAMPLES = 600
"""Along the curve, over all tasks."""
WHOLE_SAMPLES = 10_000
"""At the ends of periods, over all tasks: whole test sets, where they are not larger than that."""
MODELS = 120
"""Served models of which it is asked whether they know a task yet; of more, an even choice."""
RIGHT = 0.5
"""A task is answered when more than this share of its samples is."""
END = 1 << 62


def served_run(play: Played, board: Board) -> ServedRun | None:
    """The summary of what was served; None where the scenario has no stream, or nothing was served."""
    stream = play.config.data.stream
    if stream is None or not play.watch.deployments:
        return None
    server = any(one.node == SERVER for one in play.watch.deployments)
    it = _Served(play, board, [SERVER] if server else [actor.node for actor in play.stage.honest])
    return ServedRun(
        whose="server" if server else "learners",
        tasks=tuple(task.name for task in play.stage.tasks),
        period_s=stream.every_s,
        arrived=it.arrived,
        accuracy=it.matrix(),
        answered_s=it.answered_s(),
        untrained=tuple(1 / len(play.stage.dataset.labels) for _ in play.stage.tasks),
        curve=it.curve(play.config.world.curve_points),
    )


class _Served:
    def __init__(self, play: Played, board: Board, nodes: Sequence[str]) -> None:
        stream = play.config.data.stream
        assert stream is not None, "asked for by `served_run` alone"
        self._play, self._board, self._tasks, self._steps = play, board, play.stage.tasks, stream.tasks
        self._every_ns = to_ns(stream.every_s)
        self._changes = [one for one in play.watch.deployments if one.node in nodes]
        self._nodes = list(dict.fromkeys(one.node for one in self._changes))
        self._began_ns = {note.node: note.time_ns for note in reversed(play.notes.of("streaming"))}
        self._latest_ns = max(self._began_ns.values(), default=0)
        orders = {actor.node: order_of(play.config, play.seed, actor.node) for actor in play.stage.honest}
        self.arrived = tuple(min(order.index(i) for order in orders.values()) for i in range(len(self._tasks)))
        self._arrived_ns = [
            min(self._began_ns.get(node, 0) + order.index(i) * self._every_ns for node, order in orders.items())
            for i in range(len(self._tasks))
        ]
        every = max(1, sum(len(task.test) for task in self._tasks) // TEST_SAMPLES)
        self._part = [chosen(task.test, range(0, len(task.test), every)) for task in self._tasks]
        some = max(1, sum(len(task.test) for task in self._tasks) // WHOLE_SAMPLES)
        self._whole = [chosen(task.test, range(0, len(task.test), some)) for task in self._tasks]

    def matrix(self) -> tuple[tuple[float, ...], ...]:
        """R[t][i]: just before the next task comes; the last at the end of the run."""
        ends_ns = [self._latest_ns + (t + 1) * self._every_ns - 1 for t in range(self._steps - 1)]
        return tuple(self._accuracies(time_ns, self._whole) for time_ns in (*ends_ns, END))

    def curve(self, points: int) -> tuple[ServedPoint, ...]:
        """At changes of what is served, and where tasks arrive; from the first model on."""
        changes = sorted({one.time_ns for one in self._changes})
        times = set(_even(changes, points)) | {time_ns for time_ns in self._arrived_ns if time_ns >= changes[0]}
        times |= {end for t in range(self._steps) if (end := self._latest_ns + (t + 1) * self._every_ns - 1) >= changes[0]}
        found = []
        for time_ns in sorted(times):
            accuracy_I = self._accuracies(time_ns, self._part)
            seen = [value for value, at_ns in zip(accuracy_I, self._arrived_ns, strict=True) if at_ns <= time_ns]
            found.append(ServedPoint(time_ns / NS, float(np.mean(seen or [0.0])), float(np.mean(accuracy_I))))
        return tuple(found)

    def answered_s(self) -> tuple[float | None, ...]:
        """Per task, from its arrival to the first model that is right about it."""
        times_ns = _even(sorted({one.time_ns for one in self._changes}), MODELS)
        rows = {time_ns: self._accuracies(time_ns, self._part) for time_ns in times_ns}
        return tuple(self._answered(i, at_ns, rows) for i, at_ns in enumerate(self._arrived_ns))

    def _answered(self, i: int, at_ns: int, rows: dict[int, tuple[float, ...]]) -> float | None:
        times_ns = list(rows)
        first = max(0, bisect_right(times_ns, at_ns) - 1)  # what is served when the task comes
        hits = (max(0, time_ns - at_ns) / NS for time_ns in times_ns[first:] if rows[time_ns][i] > RIGHT)
        return next(hits, None)

    def _accuracies(self, time_ns: int, tests: Sequence[DataRef]) -> tuple[float, ...]:
        """Per task, mean over who serves something at that time; 0 before anything is served."""
        models = [model for node in self._nodes if (model := self._play.watch.serving(node, time_ns)) is not None]
        if not models:
            return (0.0,) * len(tests)
        asked: list[tuple[Digest, DataRef]] = [(model, test) for model in models for test in tests]
        scores_MI = np.array([one.accuracy for one in self._board.score(asked)]).reshape(len(models), len(tests))
        return tuple(float(value) for value in scores_MI.mean(axis=0))


def _even(times: Sequence[int], count: int) -> list[int]:
    """At most `count` of them, the first and the last among them."""
    if len(times) <= max(2, count):
        return list(times)
    return sorted({times[round(k * (len(times) - 1) / (count - 1))] for k in range(count)})
