"""From single runs to the result over seeds."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from kuberml.core.errors import InternalError
from kuberml.scenario import curves
from kuberml.scenario.config import Config
from kuberml.scenario.digests import data_digest, scenario_digest
from kuberml.scenario.remarks import remarks
from kuberml.scenario.result import FailedRun, Freshness, ParadigmResult, Rank, Result, RunRef, ScenarioRef, Target
from kuberml.scenario.run_summary import CurvePoint, RunSummary
from kuberml.scenario.sentence import sentence
from kuberml.scenario.served_over_seeds import combine_served, joint_label
from kuberml.scenario.served_words import served_sentence
from kuberml.scenario.spread import deviation, interval_95, mean, overlap, percentile

POINT = 0.01
"""One point of accuracy."""


def aggregate(
    runs: Sequence[RunSummary],
    config: Config,
    *,
    wall_s: float,
    versions: dict[str, str] | None = None,
    failed: Sequence[FailedRun] = (),
) -> Result:
    """The result of a scenario's runs: every paradigm over those of its seeds that did not fail.

    Raises:
        InternalError: a paradigm has no run and none that failed, or one seed twice.
    """
    by_label = _group(runs, config, {one.paradigm for one in failed})
    target = find_target(by_label, config.world.target)
    uses = {label: paradigm.use for label, paradigm in config.paradigms.items()}
    joint = joint_label(by_label, uses)
    paradigms = {
        label: msgspec.structs.replace(
            combine(mine, target, use=uses[label]), served=combine_served(mine, joint, by_label.get(joint, ()))
        )
        for label, mine in by_label.items()
    }
    ranking = rank(paradigms)
    return Result(
        task=config.task,
        learners=config.learners.count,
        wall_s=wall_s,
        scenario=ScenarioRef(config.name, scenario_digest(config), data_digest(config), config.run_seeds),
        target=target,
        runs=tuple(RunRef(run.paradigm, run.seed, run.trace_hash, run.integer_hash) for run in runs),
        paradigms=paradigms,
        ranking=ranking,
        sentence=served_sentence(paradigms) or sentence(paradigms, ranking),
        versions=versions or {},
        failed=tuple(failed),
        remarks=remarks(config),
    )


def find_target(by_label: dict[str, list[RunSummary]], asked: float | str | None) -> Target | None:
    """The accuracy that time, bytes and energy are measured to. None if nothing was measured along the runs.

    A number is taken as it is; a label means one point under that paradigm's best mean accuracy; else it is one point under the
    median of all paradigms' best, so that at least half of them have a figure.
    """
    if isinstance(asked, int | float):
        return Target(float(asked), "set in the scenario")
    tops = {label: top for label, runs in by_label.items() if (top := _top(runs)) is not None}
    if isinstance(asked, str):
        return Target(tops[asked] - POINT, f"one point under the best of {asked}") if asked in tops else None
    if not tops:
        return None
    median = sorted(tops.values())[len(tops) // 2]
    return Target(
        median - POINT, "one point under the median of the paradigms' best: at least half of them reach it on average"
    )


def combine(runs: Sequence[RunSummary], target: Target | None, *, use: str = "") -> ParadigmResult:
    """One paradigm's runs over seeds."""
    means = [_mean_over_honest(run, run.accuracy) for run in runs]
    hits = [curves.reached(run.curve, target.accuracy) if target else None for run in runs]
    fresh_s = [(percentile(run.freshness_s, 50), percentile(run.freshness_s, 99)) for run in runs]
    curve, curve_std = curves.combine([run.curve for run in runs])
    columns: dict[str, list[float | None]] = {
        "accuracy_mean": means,
        "accuracy_p10": [percentile(_honest(run, run.accuracy), 10) for run in runs],
        "accuracy_own": [_mean_over_honest(run, run.accuracy_own) for run in runs],
        "accuracy_slow": [run.accuracy_slow for run in runs],
        "accuracy_fast": [run.accuracy_fast for run in runs],
        "bias": [_bias(run) for run in runs],
        "accuracy_before": [_mean_over_honest(run, run.accuracy_before) for run in runs],
        "accuracy_network": [_mean_over_honest(run, run.accuracy_network) for run in runs],
        "accuracy_pooled_reference": [run.accuracy_pooled_reference for run in runs],
        "virtual_time_s": [run.virtual_time_s for run in runs],
        "bytes_moved": [run.bytes_moved for run in runs],
        "energy_j": [run.energy_j for run in runs],
        "flops": [run.flops for run in runs],
        "regret": [run.regret for run in runs],
        "latency_p50_ms": [percentile(run.latency_ms, 50) for run in runs],
        "latency_p99_ms": [percentile(run.latency_ms, 99) for run in runs],
        "time_to_target_s": [hit.time_s if hit else None for hit in hits],
        "bytes_to_target": [hit.bytes if hit else None for hit in hits],
        "energy_to_target_j": [hit.energy_j if hit else None for hit in hits],
    }
    return ParadigmResult(
        use=use,
        note=runs[0].note,
        seeds=len(runs),
        accuracy_mean_interval=interval_95([value for value in means if value is not None]),
        freshness_s=Freshness(mean(low for low, _ in fresh_s), mean(high for _, high in fresh_s)),
        freshness_s_std=Freshness(deviation(low for low, _ in fresh_s), deviation(high for _, high in fresh_s)),
        target_reached=sum(hit is not None for hit in hits),
        harmed=_harmed(runs),
        curve=curve,
        curve_std=curve_std,
        **{name: mean(column) for name, column in columns.items()},  # type: ignore[arg-type]
        **{f"{name}_std": deviation(column) for name, column in columns.items()},  # type: ignore[arg-type]
    )


def rank(paradigms: dict[str, ParadigmResult]) -> tuple[Rank, ...]:
    """Paradigms by mean accuracy, highest first, each with those that it cannot be told apart from."""
    means = {label: item.accuracy_mean for label, item in paradigms.items() if item.accuracy_mean is not None}
    order = sorted(means, key=lambda label: (-means[label], label))
    spans = {label: paradigms[label].accuracy_mean_interval for label in order}
    return tuple(
        Rank(
            label,
            means[label],
            spans[label],
            tuple(other for other in order if other != label and overlap(spans[label], spans[other])),
        )
        for label in order
    )


def _group(runs: Sequence[RunSummary], config: Config, failed: Collection[str]) -> dict[str, list[RunSummary]]:
    by_label: dict[str, list[RunSummary]] = {label: [] for label in config.paradigms}
    for run in runs:
        if run.paradigm not in by_label or run.seed in (other.seed for other in by_label[run.paradigm]):
            raise InternalError(f"a run of {run.paradigm!r} with seed {run.seed} is unknown or there twice")
        by_label[run.paradigm].append(run)
    missing = [label for label, mine in by_label.items() if not mine and label not in failed]
    if missing:
        raise InternalError(f"no run of {', '.join(missing)}")
    return {label: mine for label, mine in by_label.items() if mine}


def _honest(run: RunSummary, per_learner: dict[str, float]) -> list[float]:
    return [value for node, value in per_learner.items() if node not in run.liars]


def _mean_over_honest(run: RunSummary, per_learner: dict[str, float]) -> float | None:
    return mean(_honest(run, per_learner))


def _bias(run: RunSummary) -> float | None:
    slow, fast = run.accuracy_slow, run.accuracy_fast
    return None if slow is None or fast is None else fast - slow


def _harmed(runs: Sequence[RunSummary]) -> int | None:
    if not all(run.accuracy_before for run in runs):
        return None
    pairs = ((run, node, before) for run in runs for node, before in run.accuracy_before.items() if node not in run.liars)
    return sum(run.accuracy.get(node, 0.0) < before for run, node, before in pairs)


def _top(runs: Sequence[RunSummary]) -> float | None:
    curve: Sequence[CurvePoint] = curves.combine([run.curve for run in runs])[0]
    return curves.best(curve)
