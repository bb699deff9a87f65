"""One plain sentence of what the reader sees, made from the numbers: the same words when we win, tie or lose."""

from __future__ import annotations

from collections.abc import Sequence

from kuberml.core.units import show_bytes
from kuberml.scenario.result import ParadigmResult, Rank, Target

OURS = "kuber"
REFERENCE = "centralised"
"""Needs everybody's raw data in one place: a mark to measure against, not a competitor."""


def sentence(paradigms: dict[str, ParadigmResult], ranking: Sequence[Rank]) -> str:
    """What came out: the best way of ours against the best other way (or the first against the second), cost and harm."""
    if not ranking:
        return "No learner served anything: there is nothing to compare."
    order = [place for place in ranking if paradigms[place.paradigm].use != REFERENCE] or list(ranking)
    ours = next((place for place in order if paradigms[place.paradigm].use == OURS), order[0])
    rival = next((p for p in order if p is not ours and paradigms[p.paradigm].use != OURS), None)
    rival = rival or next((place for place in order if place is not ours), None)
    if rival is None:
        return f"{ours.paradigm} reached {percent(ours.accuracy_mean)}{_before(paradigms[ours.paradigm])}; it ran alone."
    parts = [_versus(ours, rival), _cost(paradigms, ours.paradigm, rival.paradigm), _harm(paradigms[ours.paradigm])]
    return "; ".join(part for part in parts if part) + "."


def about_target(target: Target | None, paradigms: dict[str, ParadigmResult]) -> str:
    """What time and bytes to target mean, and who has none because not every seed reached it. "" without a target."""
    if target is None:
        return ""
    missed = [
        f"{label} ({item.target_reached} of {item.seeds})"
        for label, item in paradigms.items()
        if item.target_reached < item.seeds
    ]
    without = f" Without a figure, since not every seed reached it: {', '.join(missed)}." if missed else ""
    return f"Target: {percent(target.accuracy)}, {target.how}.{without}"


def ties(ranking: Sequence[Rank]) -> str:
    """Which paradigms cannot be told apart, every pair once. "": all can."""
    order = [place.paradigm for place in ranking]
    if len(order) > 1 and all(len(place.ties) == len(order) - 1 for place in ranking):
        return f"No two of these can be told apart: {', '.join(order)}."
    later = [(place.paradigm, [other for other in order[i + 1 :] if other in place.ties]) for i, place in enumerate(ranking)]
    pairs = "; ".join(f"{paradigm} from {', '.join(others)}" for paradigm, others in later if others)
    return f"Cannot be told apart: {pairs}." if pairs else ""


HOW_FAR = "time and bytes: until what is served last changed; energy: to the end of the run, idling included"
"""What the columns of costs cover, for who compares them."""


def percent(accuracy: float) -> str:
    """A share as a percentage with one decimal."""
    return f"{100 * accuracy:.1f} %"


def _versus(ours: Rank, rival: Rank) -> str:
    points = 100 * (ours.accuracy_mean - rival.accuracy_mean)
    start = f"{ours.paradigm} reached {percent(ours.accuracy_mean)} on average"
    other = f"{rival.paradigm} ({percent(rival.accuracy_mean)})"
    if rival.paradigm in ours.ties:
        why = "one seed decides nothing" if ours.interval is None or rival.interval is None else "their intervals overlap"
        return f"{start}, {_points(points)} {other}, but the two cannot be told apart: {why}"
    return f"{start}, {_points(points)} {other}"


def _points(points: float) -> str:
    if abs(points) < 0.05:
        return "level with"
    return f"{abs(points):.1f} points {'above' if points > 0 else 'below'}"


def _cost(paradigms: dict[str, ParadigmResult], ours: str, rival: str) -> str:
    mine, theirs = paradigms[ours].bytes_moved, paradigms[rival].bytes_moved
    low, high = sorted((mine, theirs))
    if low and high / low < 1.05:
        return f"both moved about {show_bytes(mine)}"
    ratio = f" ({high / low:.2g} times as much)" if low and high / low >= 1.5 else ""
    if mine < theirs:
        return f"it moved {show_bytes(mine)}, the other {show_bytes(theirs)}{ratio}"
    return f"it moved {show_bytes(mine)}{ratio}, the other {show_bytes(theirs)}"


def _before(result: ParadigmResult) -> str:
    return "" if result.accuracy_before is None else f" (from {percent(result.accuracy_before)} before anything was shared)"


def _harm(result: ParadigmResult) -> str:
    if result.harmed is None:
        return ""
    if result.harmed == 0:
        return "no honest learner ended worse than it began"
    learners = "honest learner" if result.harmed == 1 else "honest learners"
    return f"{result.harmed} {learners} ended worse than before (all seeds counted)"
