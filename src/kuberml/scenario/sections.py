"""The sections of the report that are words and tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kuberml.core.units import show_seconds
from kuberml.scenario.factors import NONE, freshness, known_factors, latency, show_accuracy
from kuberml.scenario.failures import all_failed, seeds_left
from kuberml.scenario.markup import Safe, fold, join, section, table, tag, words, words_heading
from kuberml.scenario.plots import colour_of
from kuberml.scenario.result import FailedRun, Interval, ParadigmResult, Rank, Result
from kuberml.scenario.run_summary import RunSummary
from kuberml.scenario.sentence import HOW_FAR


def notices(result: Result, runs: Sequence[RunSummary]) -> Safe:
    """What a reader must know before believing a number."""
    noted: dict[str, list[str]] = {}
    for label, item in result.paradigms.items():
        if item.note:
            noted.setdefault(item.note, []).append(label)
    lines = [*result.remarks, *map(str, result.failed)]
    lines += [f"{', '.join(labels)}: {note}" for note, labels in noted.items()]
    if len(result.scenario.seeds) == 1:
        lines.append("One seed: nothing here has a spread, and a difference may be chance.")
    lines += _silent(result, runs)
    withheld = sum(sum(run.withheld.values()) for run in runs)
    if withheld:
        lines.append(f"{withheld} samples over all runs were withheld from publication: too few of a class at one learner.")
    return tag("ul", *(tag("li", line) for line in lines), css="warn") if lines else Safe("")


def _silent(result: Result, runs: Sequence[RunSummary]) -> list[str]:
    """Learners that served nothing have no accuracy, so a mean is over the others: that must be said."""
    missing: Counter[str] = Counter()
    for run in runs:
        missing[run.paradigm] += max(0, result.learners - len({*run.accuracy, *run.liars}))
    return [
        f"{label}: learners that served nothing are left out of its means ({count}, over all seeds)."
        for label, count in missing.items()
        if count
    ]


def factors(paradigms: dict[str, ParadigmResult], failed: Sequence[FailedRun] = ()) -> Safe:
    """The five factors of every paradigm."""
    columns, colours = known_factors(paradigms), colour_of(list(paradigms))
    best = max((item.accuracy_mean for item in paradigms.values() if item.accuracy_mean is not None), default=None)
    rows = []
    for label, item in paradigms.items():
        cells = [tag("td", column.value(item), tag("small", column.spread(item))) for column in columns]
        if best is not None and item.accuracy_mean == best:
            cells[0] = tag("td", columns[0].value(item), tag("small", columns[0].spread(item)), css="best")
        rows.append(
            [
                _named(seeds_left(label, failed, item.seeds), colours[label]),
                *cells,
                latency(item),
                freshness(item),
                NONE if item.harmed is None else item.harmed,
            ]
        )
    rows += [[label, "failed", *[NONE] * (len(columns) + 2)] for label in all_failed(paradigms, failed)]
    head = ["paradigm", *(column.heading for column in columns), "latency p50 / p99", "freshness p50 / p99", "made worse"]
    lead = (
        "Means over seeds with one standard deviation. Accuracy is on a label-balanced test set that no trial has seen, liars"
        " left out; bytes count everything, also extractors, cards and requests; time and energy are of modelled devices and"
        f" links, unless a note calls the run live; {HOW_FAR}."
        " Slow and fast: the slowest and fastest third of devices, on what these hold"
        " back. Made worse: honest learners that ended below where they began, over all seeds."
    )
    return section("The five factors", table(head, rows, css="wide"), lead=lead)


def ranking(places: Sequence[Rank]) -> Safe:
    """Order by accuracy, with what cannot be told apart."""
    rows = []
    for place, item in enumerate(places, start=1):
        span = NONE if item.interval is None else _span(item.interval)
        ties = ", ".join(item.ties) if item.ties else "none"
        rows.append([f"{place}. {item.paradigm}", show_accuracy(item.accuracy_mean), span, words(ties)])
    head = ["paradigm", "accuracy, mean", "95 % interval", words_heading("cannot be told apart from")]
    return table(head, rows, css="wide")


def _span(interval: Interval) -> str:
    """An interval as far as an accuracy can be in it: with two seeds t is so wide that it says little."""
    low, high = (min(max(end, 0.0), 1.0) for end in (interval.low, interval.high))
    return f"{100 * low:.1f} – {show_accuracy(high)}"


def identity(result: Result) -> Safe:
    """What would have to be equal for this result to come out again."""
    facts = [
        ("scenario", tag("code", result.scenario.digest)),
        ("data", tag("code", result.scenario.data_digest)),
        ("seeds", ", ".join(map(str, result.scenario.seeds))),
        ("took", f"{show_seconds(result.wall_s)} of real time"),
        ("versions", ", ".join(f"{name} {version}" for name, version in sorted(result.versions.items())) or NONE),
    ]
    hashes = table(
        ["run", "seed", "trace hash"], ([run.paradigm, run.seed, tag("code", run.trace_hash)] for run in result.runs)
    )
    listed = tag("dl", *(join([tag("dt", name), tag("dd", fact)]) for name, fact in facts))
    return section("To repeat it", listed, fold("Trace hash of every run", hashes))


def _named(label: str, colour: str) -> Safe:
    return join([tag("span", css="chip", style=f"background:{colour}"), label])
