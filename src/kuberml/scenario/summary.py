"""From a finished run to its summary: accuracies, costs, decisions. Means are taken later, over honest learners and seeds."""

from __future__ import annotations

from typing import Any

from kuberml.core.ids import Digest
from kuberml.core.units import NS
from kuberml.learning.types import DataRef, Scores
from kuberml.learning.views import chosen
from kuberml.scenario.bias import slow_and_fast
from kuberml.scenario.decisions import decisions
from kuberml.scenario.measure import Board, Watch, on_mix
from kuberml.scenario.played import Ended, Played
from kuberml.scenario.references import pooled_reference, regret
from kuberml.scenario.run_summary import CurvePoint, RunSummary
from kuberml.scenario.served import served_run
from kuberml.scenario.stage import Actor

CURVE_SAMPLES = 1000
"""Test samples along the curve; the last point and every table use all of them."""


def summarise(play: Played, outcome: Ended, score: Any) -> RunSummary:
    """Measure a run that has ended.

    Args:
        play: the run.
        outcome: what the world says of it.
        score: see `measure.Scorer`.
    """
    stage, watch = play.stage, play.watch
    board = Board(watch.predictors, score)
    end = {actor.node: scores for actor, scores in _scores(play, board, outcome.virtual_time_ns)}
    begin = {actor.node: scores for actor, scores in _scores(play, board, None)}
    counts = {actor.node: actor.data.counts for actor in stage.honest if actor.data is not None}
    slow, fast = slow_and_fast(stage.honest, _served(play), board)
    return RunSummary(
        paradigm=play.label,
        seed=play.seed,
        trace_hash=outcome.trace_hash,
        integer_hash=outcome.integer_hash,
        accuracy={node: scores.accuracy for node, scores in end.items()},
        accuracy_own={node: on_mix(scores, counts[node]) for node, scores in end.items()},
        accuracy_slow=slow,
        accuracy_fast=fast,
        accuracy_before={node: scores.accuracy for node, scores in begin.items()},
        recall_before={node: scores.recall() for node, scores in begin.items()},
        recall={node: scores.recall() for node, scores in end.items()},
        accuracy_pooled_reference=pooled_reference(play, score),
        liars=tuple(actor.node for actor in stage.learners if actor.liar),
        virtual_time_s=_last_change_s(watch),
        bytes_moved=watch.deployments[-1].spent.moved_bytes if watch.deployments else play.moved_bytes(),
        energy_j=sum(outcome.energy_mj.values()) / 1000,
        flops=sum(outcome.flops.values()),
        freshness_s=tuple(watch.freshness_s),
        latency_ms=_latency_ms(play),
        curve=_curve(play, board),
        decisions=decisions(play),
        withheld=_withheld(play),
        regret=regret(play, {node: scores.accuracy for node, scores in end.items()}, score),
        served=served_run(play, board),
        note=_note(play),
        extra={"received_bytes": {node: traffic.received_control + traffic.received_blob
                                  for node, traffic in sorted(outcome.traffic.items())},
               **_of_steps(play)},
    )  # fmt: skip


def _served(play: Played) -> list[Digest]:
    """What honest learners serve at the end."""
    models = (play.watch.serving(actor.node, 1 << 62) for actor in play.stage.honest)
    return [model for model in models if model is not None]


def _scores(play: Played, board: Board, time_ns: int | None) -> list[tuple[Actor, Scores]]:
    """Every honest learner's score with what it served at a time; None: with the first that it served."""
    watch = play.watch
    served = [
        (actor, watch.first(actor.node) if time_ns is None else watch.serving(actor.node, time_ns))
        for actor in play.stage.honest
    ]
    there = [(actor, model) for actor, model in served if model is not None]
    found = board.score([(model, play.stage.tests[actor.domain]) for actor, model in there])
    return [(actor, scores) for (actor, _), scores in zip(there, found, strict=True)]


def _curve(play: Played, board: Board) -> tuple[CurvePoint, ...]:
    watch, points = play.watch, []
    tests = {domain: _part(test) for domain, test in play.stage.tests.items()}
    for time_ns in watch.times(play.config.world.curve_points):
        asked = [(watch.serving(actor.node, time_ns), tests[actor.domain]) for actor in play.stage.honest]
        scores = board.score([(model, test) for model, test in asked if model is not None])
        if scores:
            spent = watch.spent_at(time_ns)
            mean = sum(one.accuracy for one in scores) / len(play.stage.honest)
            points.append(CurvePoint(time_ns / NS, float(spent.moved_bytes), mean, spent.energy_mj / 1000))
    return tuple(points)


def _part(test: DataRef) -> DataRef:
    """A part of the test set for the curve, spread over it: the set lies in order, and so label-balanced."""
    every = max(1, len(test) // CURVE_SAMPLES)
    return chosen(test, range(0, len(test), every))


def _latency_ms(play: Played) -> tuple[float, ...]:
    """Modelled latency of one prediction on each learner's own device."""
    flops = {model: play.watch.predictors[model].flops_per_sample for model in set(_served(play))}
    served = [(actor, play.watch.serving(actor.node, 1 << 62)) for actor in play.stage.honest]
    return tuple(1000 * flops[model] / actor.device.flops_per_s for actor, model in served if model is not None)


def _last_change_s(watch: Watch) -> float:
    return watch.deployments[-1].time_ns / NS if watch.deployments else 0.0


def _withheld(play: Played) -> dict[str, int]:
    total: dict[str, int] = {}
    for note in play.notes.of("withheld"):
        for label, count in note.fields["labels"].items():
            total[label] = total.get(label, 0) + count
    return total


def _of_steps(play: Played) -> dict[str, Any]:
    """What steps on updates came to, where there were any: the weakest promise of privacy, and the rounds that were lost."""
    found: dict[str, Any] = {}
    if promises := [note.fields for note in play.notes.of("privacy")]:
        found["privacy"] = max(promises, key=lambda one: one["epsilon"])
    if lost := [note.fields["why"] for note in play.notes.of("round lost")]:
        found["rounds_lost"] = lost
    return found


def _note(play: Played) -> str:
    return "; ".join(filter(None, (_common(play), _private(play), _unanswered(play))))


def _unanswered(play: Played) -> str:
    """A server goes on without who does not fit: that must not pass for a method that learns nothing."""
    count, why = play.notes.unanswered.get("fit", (0, ""))
    return f"{count} requests to fit came to nothing, the first because: {why}" if count else ""


def _private(play: Played) -> str:
    made = _of_steps(play).get("privacy")
    if made is None:
        return ""
    whom = "to everybody but the server" if made["at"] == "server" else "to the server too"
    return f"epsilon {made['epsilon']:.3g} at delta {made['delta']:g} {whom}, a client {made['neighbours']}"


def _common(play: Played) -> str:
    if getattr(play.paradigm, "COMMON_MODEL", False):
        if play.config.paradigms[play.label].options.get("head"):
            return "everybody trains a head on the public extractor"
        chosen = play.config.learners
        common = play.config.common_model if chosen.adapter == "torch" else chosen.estimator
        return f"everybody has the common architecture {common!r}: the best case of an averaging paradigm"
    return ""
