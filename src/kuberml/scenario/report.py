"""`report.html`: one self-contained page that shows a result. Without matplotlib the tables are there and the plots are not."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

from kuberml.core.errors import MissingExtra
from kuberml.scenario import plots, sections, served_section, teaching
from kuberml.scenario.markup import Safe, esc, join, section, tag
from kuberml.scenario.result import Rank, Result
from kuberml.scenario.result_files import REPORT_FILE
from kuberml.scenario.run_summary import RunSummary
from kuberml.scenario.sentence import about_target


def write_report(folder: Path, result: Result, runs: Sequence[RunSummary]) -> Path:
    """Write the report into `folder`, whole or not at all, and say where it is."""
    path = folder / REPORT_FILE
    part = path.with_name(path.name + ".part")
    part.write_text(render(result, runs), encoding="utf-8")
    part.replace(path)
    return path


def render(result: Result, runs: Sequence[RunSummary]) -> str:
    """The page."""
    parts = [
        _header(result),
        sections.notices(result, runs),
        served_section.served(result.paradigms, figure),
        sections.factors(result.paradigms, result.failed),
        _figures(result, runs),
        ranking_section(result.ranking, runs),
        *teaching.knowledge(runs),
        sections.identity(result),
    ]
    return page(f"{result.scenario.name}: kuberml report", join(part for part in parts if part))


def page(title: str, body: Safe) -> str:
    """A whole page around a body."""
    text = resources.files("kuberml.scenario").joinpath("templates/report.html").read_text(encoding="utf-8")
    return string.Template(text).substitute(title=esc(title), body=body)


def figure(caption: str, draw: Callable[[], str]) -> Safe:
    """A plot with its caption; if the extra is missing, a sentence that says so."""
    try:
        inside: Safe = Safe(draw())
    except MissingExtra as missing:
        inside = tag("p", f"Not drawn: {missing}.", css="lead")
    return tag("figure", tag("figcaption", caption), inside)


def ranking_section(places: Sequence[Rank], runs: Sequence[RunSummary]) -> Safe:
    """Order by mean accuracy beside every learner's own."""
    lead = (
        "Intervals are Student's t over seeds, as far as they lie within 0 and 100 %. Where two overlap, their order is not a"
        " finding."
    )
    table = tag("figure", tag("figcaption", "By mean accuracy"), sections.ranking(places))
    dots = figure("Every learner", lambda: plots.learners(runs))
    return section("Ranking", tag("div", table, dots, css="figures"), lead=lead)


def _header(result: Result) -> Safe:
    seeds = len(result.scenario.seeds)
    world = "real processes, real time" if result.is_live else "simulated world"
    words = f"{result.learners} learners · task {result.task} · {seeds} seed{'s' if seeds > 1 else ''} · {world}"
    return tag(
        "header",
        tag("p", words, css="kicker"),
        tag("h1", result.scenario.name),
        tag("p", result.sentence, css="sentence"),
    )


def _figures(result: Result, runs: Sequence[RunSummary]) -> Safe:
    target = result.target.accuracy if result.target else None
    lead = "Bands are one standard deviation over seeds."
    if result.target:
        lead += f" Dashed: the target. {about_target(result.target, result.paradigms)}"
    return section("How accuracy grew", growth(runs, target), lead=lead)


def growth(runs: Sequence[RunSummary], target: float | None = None) -> Safe:
    """Accuracy over time and over bytes, where it was measured along the runs."""
    if not any(run.curve for run in runs):
        return tag("p", "Accuracy was measured only at the end of these runs.", css="lead")
    time = figure("Accuracy over time", lambda: plots.over_time(runs, target))
    moved = figure("Accuracy over bytes", lambda: plots.over_bytes(runs, target))
    return tag("div", time, moved, css="figures")
