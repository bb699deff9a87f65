"""What a live run came to: its nodes' ledgers put together in order of time, and the same summary as of a simulated run.

Time and bytes were measured; energy was where the machine can, else it is modelled, and the summary says so.
"""

from __future__ import annotations

import contextlib
import time
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from kuberml.core.errors import ConfigError
from kuberml.core.ids import Digest, NodeId
from kuberml.core.seam import Store
from kuberml.core.values import loads
from kuberml.knowledge.threads import one_thread
from kuberml.learning.datasets import samples
from kuberml.ledger.ledger import Event, Ledger
from kuberml.scenario.live.playbill import PREDICTORS
from kuberml.scenario.live.run import LiveRun
from kuberml.scenario.live.standing import USAGE
from kuberml.scenario.measure import Spent, Watch
from kuberml.scenario.notes import Notes
from kuberml.scenario.run_summary import RunSummary
from kuberml.scenario.summary import summarise
from kuberml.vault.folder import FolderStore
from kuberml.worlds.live.energy import Modelled
from kuberml.worlds.simulated.links import Traffic

TIMED = 20
"""Single predictions of which the median is the latency."""


def summary_of(run: LiveRun, ledger: Ledger, score: Any) -> RunSummary:
    """Measure a live run that has ended, and write all that its nodes recorded into the scenario's ledger.

    Args:
        run: the run.
        ledger: of the whole scenario; nodes are called label.seed.node there, as in simulated runs.
        score: see `measure.Scorer`.
    """
    with contextlib.ExitStack() as stack:
        play = LivePlay(run, stack)
        for event in play.replay():
            name = NodeId(f"{run.label}.{run.seed}.{event.node}")
            ledger.recorder(name, lambda event=event: event.time_ns).record(event.event, **event.fields)  # type: ignore[misc]
        summary = summarise(play, play.end, score)
        pause = f"its time includes {run.away_s:.0f} s in which it was stopped" if run.away_s else ""
        return msgspec.structs.replace(
            summary,
            latency_ms=play.latency_ms(),
            note="; ".join(filter(None, (summary.note, f"live: time and bytes measured, energy {play.energy}", pause))),
            extra={
                **summary.extra,
                "world": "live", "energy": play.energy, "finished": run.finished, "deaths": dict(run.losses.deaths),
            },
        )  # fmt: skip


class LiveEnd(msgspec.Struct, frozen=True, kw_only=True):
    """See `scenario.played.Ended`. A live run is not repeatable: it has no hashes."""

    virtual_time_ns: int
    traffic: dict[NodeId, Traffic]
    energy_mj: dict[NodeId, int]
    flops: dict[NodeId, int]
    trace_hash: str = ""
    integer_hash: str = ""


class LivePlay:
    """See `scenario.played.Played`. `replay` first, then everything else is known."""

    def __init__(self, run: LiveRun, stack: contextlib.ExitStack) -> None:
        self._run, self._stack = run, stack
        self.config, self.label, self.seed, self.things = run.config, run.label, run.seed, run.parts.things
        self.paradigm, self.stage, self.cast = run.parts.paradigm, run.parts.stage, run.parts.cast
        self._now_ns = 0
        self.watch, self.notes = Watch(lambda: self._now_ns, self._spent), Notes(lambda: self._now_ns)
        self._usage: dict[tuple[str, str], dict[str, int]] = {}
        self._stores: dict[NodeId, Store] = {}
        self._measured_ns = [at_ns for at_ns, _ in run.joules]
        self.energy = run.energy_label or Modelled().label

    @property
    def world(self) -> LivePlay:
        """Where the stores are."""
        return self

    def store(self, node: NodeId) -> Store:
        """A node's vault, as it was at the end."""
        if node not in self._stores:
            self._stores[node] = self._stack.enter_context(FolderStore(self._run.folder / "nodes" / node))
        return self._stores[node]

    def replay(self) -> Iterator[Event]:
        """Go through everything that was recorded, in order of time; each event is handed on when it has been taken in."""
        models: dict[str, Any] = {}
        for event in sorted(self._events(), key=lambda one: (one.time_ns, one.node, one.seq)):
            self._now_ns = event.time_ns - self._run.began_ns
            if event.event == USAGE:
                self._usage[event.node, event.fields["process"]] = event.fields
            elif event.event == "deployed" and event.fields["model"] not in models:
                models[event.fields["model"]] = self._model(event.fields["model"])
            if event.event == "deployed" and models[event.fields["model"]] is not None:
                began_ms = self._run.began_ns // 1_000_000
                ages = tuple(learned - began_ms for learned in event.fields["learned_at_ms"])
                self.watch.deployed(event.node, event.fields["model"], models[event.fields["model"]], ages)
            self.notes.add(event.node, event.event, event.fields)
            yield event
        self._now_ns = self._run.ended_ns - self._run.began_ns

    @property
    def end(self) -> LiveEnd:
        """What the world says of it."""
        heard = self._run.heard
        traffic = {
            node: Traffic(sent_control=status.sent_bytes, received_control=status.received_bytes)
            for node, status in heard.items()
        }
        nodes = {node for node, _ in self._usage}
        return LiveEnd(
            virtual_time_ns=self._run.ended_ns - self._run.began_ns,
            traffic=traffic,
            energy_mj={NodeId("everybody"): self._spent().energy_mj},
            flops={NodeId(node): self._sum("flops", node) for node in nodes},
        )

    def moved_bytes(self) -> int:
        """Bytes that were sent so far, each counted once."""
        return self._sum("moved_bytes")

    def latency_ms(self) -> tuple[float, ...]:
        """Of one prediction with what each honest learner serves, measured here."""
        found, timed = [], dict[Digest, float]()
        for actor in self.stage.honest:
            model = self.watch.serving(actor.node, 1 << 62)
            if model is not None:
                if model not in timed:
                    one = samples(self.stage.tests[actor.domain]).x_N[:1]
                    timed[model] = _time_ms(self.watch.predictors[model], one)
                found.append(timed[model])
        return tuple(found)

    def _spent(self) -> Spent:
        if self._run.joules:
            place = bisect_right(self._measured_ns, self._now_ns + self._run.began_ns)
            return Spent(self.moved_bytes(), self._run.joules[max(0, place - 1)][1])
        return Spent(self.moved_bytes(), self._sum("energy_mj"))

    def _sum(self, field: str, node: str | None = None) -> int:
        return sum(usage[field] for (whose, _), usage in self._usage.items() if node in (None, whose))

    def _events(self) -> Iterator[Event]:
        for node in self.cast:
            path = self._run.folder / "nodes" / node / "ledger.sqlite"
            with contextlib.suppress(ConfigError), Ledger(path) as ledger:  # of a node that never came there is none
                yield from ledger.events()

    def _model(self, model: str) -> Any:
        """What was served; None where the disk refused it, or its node was killed before it was written."""
        path: Path = self._run.folder / PREDICTORS / model
        return loads(path.read_bytes()) if path.exists() else None


def _time_ms(predictor: Any, x_N: Any) -> float:
    took_s = []
    with one_thread():
        for _ in range(TIMED + 1):
            began_s = time.perf_counter()
            predictor.predict(x_N)
            took_s.append(time.perf_counter() - began_s)
    return 1000 * float(np.median(took_s[1:]))  # the first prepares what later ones reuse
