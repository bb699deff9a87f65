"""The sections of the report about knowledge itself: who taught whom, what each class gained, what was refused and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from kuberml.core.units import show_bytes
from kuberml.scenario.factors import NONE
from kuberml.scenario.markup import Safe, esc, fold, heat, join, section, table, tag, words, words_heading
from kuberml.scenario.run_summary import Decision, Outcome, RunSummary

_GREEN, _RED = (10, 125, 85), (190, 60, 45)
_KEPT = ("tested", "on credit")
_OUTCOMES: dict[Outcome, str] = {
    "tested": "#2fa87a",
    "on credit": "#4d94d6",
    "untested": "#e3b341",
    "refused": "#d6604d",
    "not chosen": "#c3cad4",
}
_HEAD = (
    "receiver",
    "from",
    words_heading("what"),
    "bytes",
    "verdict",
    words_heading("why"),
    words_heading("gain per class"),
)
_ROWS = 400  # decisions listed one by one; the rest is counted


class Pair(msgspec.Struct):
    """What one learner did with all that another offered."""

    kept: int = 0
    size_bytes: int = 0
    refused: int = 0


def knowledge(runs: Sequence[RunSummary]) -> list[Safe]:
    """For each paradigm that chose among offers: who taught whom, what each class gained, what was refused and why."""
    parts = []
    for label in dict.fromkeys(run.paradigm for run in runs if run.decisions):
        mine = [run for run in runs if run.paradigm == label]
        first = mine[0]
        parts.append(
            section(
                f"{label}: who taught whom",
                tag("div", _teaching(first), _gains(first), css="figures"),
                lead=f"Seed {first.seed}. Every learner's view; liars are marked ✗.",
            )
        )
        parts.append(_choices(label, mine))
    return parts


def _teaching(run: RunSummary) -> Safe:
    nodes, pairs = _nodes(run), _pairs(run.decisions)
    most = max((pair.size_bytes for pair in pairs.values()), default=1) or 1
    rows = ([_marked(to, run), *(_taught(to, of, pairs.get((to, of), Pair()), most) for of in nodes)] for to in nodes)
    grid = table(["", *(_marked(node, run) for node in nodes)], rows, css="map")
    lead = "Rows take, columns give. Green: packages kept, stronger for more bytes. Red: only refused."
    return tag("figure", tag("figcaption", "Who taught whom"), tag("p", lead, css="lead"), grid)


def _taught(receiver: str, author: str, pair: Pair, most: int) -> Safe:
    if pair.kept:
        hover = f"{receiver} kept {pair.kept} of {author}: {show_bytes(pair.size_bytes)}"
        return heat(pair.kept, 0.25 + 0.75 * pair.size_bytes / most, hover, colour=_GREEN)
    if pair.refused:
        return heat("×", 0.3, f"{receiver} refused {pair.refused} of {author}", colour=_RED)
    return tag("td", "")


def _gains(run: RunSummary) -> Safe:
    """Receiver by label: rise of recall on the balanced test set, in points."""
    labels = sorted({label for per_label in run.recall.values() for label in per_label})
    if not labels or not run.recall_before:
        return Safe("")
    rows = []
    for node in (node for node in _nodes(run) if node in run.recall and node in run.recall_before):
        row: list[object] = [_marked(node, run)]
        for label in labels:
            row.append(_gain(node, label, run.recall_before[node].get(label), run.recall[node].get(label)))
        rows.append(row)
    lead = "Rise of each class's recall, in points. Green: learned from others. Red: lost."
    return tag("figure", tag("figcaption", "Gain per class"), tag("p", lead, css="lead"), table(["", *labels], rows, css="map"))


def _gain(node: str, label: str, before: float | None, after: float | None) -> Safe:
    if before is None or after is None:
        return tag("td", "")
    points = 100 * (after - before)
    hover = f"{node}, class {label}: {100 * before:.0f} % before, {100 * after:.0f} % after"
    return heat(
        f"{points:+.0f}" if abs(points) >= 0.5 else "·", abs(points) / 100, hover, colour=_GREEN if points > 0 else _RED
    )


def _choices(label: str, runs: Sequence[RunSummary]) -> Safe:
    """What was chosen and refused, counted by reason, and each decision of the first seed."""
    every = [decision for run in runs for decision in run.decisions]
    counts = Counter(decision.outcome for decision in every)
    order = [outcome for outcome in _OUTCOMES if counts[outcome]]
    bar = [
        tag("i", style=f"flex:{counts[name]};background:{_OUTCOMES[name]}", title=f"{name}: {counts[name]}") for name in order
    ]
    legend = join((join([_pill(name), f" {counts[name]}"]) for name in order), between="   ")
    reasons = Counter((decision.outcome, decision.why) for decision in every)
    rows = [[_pill(outcome), words(why), count] for (outcome, why), count in reasons.most_common(12)]
    shown = runs[0].decisions[:_ROWS]
    more = len(runs[0].decisions) - len(shown)
    title = f"Every decision of seed {runs[0].seed}" + (f" (the first {_ROWS}; {more} more are in runs.json)" if more else "")
    listed = table(_HEAD, map(_decision, shown), css="wide")
    return section(
        f"{label}: chosen and refused, and why",
        tag("div", *bar, css="bar"),
        tag("p", legend),
        table(["verdict", words_heading("reason"), "times"], rows, css="wide"),
        fold(title, listed),
        lead=_regret(runs),
    )


def _decision(decision: Decision) -> list[object]:
    gains = ", ".join(f"{label} {100 * gain:+.0f}" for label, gain in sorted(decision.gains.items())) or NONE
    what = f"{decision.kind} of {', '.join(decision.labels)}" if decision.labels else decision.kind
    return [
        decision.receiver,
        decision.author,
        words(what),
        show_bytes(decision.size_bytes),
        tag("td", _pill(decision.outcome)),
        words(decision.why),
        words(gains),
    ]


def _regret(runs: Sequence[RunSummary]) -> str:
    text = "All seeds. Tested: better on the receiver's own held-out data. On credit: for classes it lacks, others confirm."
    known = [run.regret for run in runs if run.regret is not None]
    if known:
        mean = 100 * sum(known) / len(known)
        text += f" Against an oracle that tries everything, the choice cost {mean:.1f} points of accuracy (regret)."
    return text


def _pairs(decisions: Iterable[Decision]) -> dict[tuple[str, str], Pair]:
    """By (receiver, author)."""
    pairs: dict[tuple[str, str], Pair] = {}
    for decision in decisions:
        pair = pairs.setdefault((decision.receiver, decision.author), Pair())
        if decision.outcome in _KEPT:
            pair.kept += 1
            pair.size_bytes += decision.size_bytes
        pair.refused += decision.outcome == "refused"
    return pairs


def _nodes(run: RunSummary) -> list[str]:
    names = {*run.accuracy, *run.liars, *(d.receiver for d in run.decisions), *(d.author for d in run.decisions)}
    return sorted(names, key=lambda name: (len(name), name))


def _marked(node: str, run: RunSummary) -> Safe:
    return join([esc(node), " ✗"]) if node in run.liars else esc(node)


def _pill(outcome: str) -> Safe:
    return tag("span", outcome, css=f"pill {outcome.replace(' ', '-')}")
