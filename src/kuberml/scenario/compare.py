"""Several results in one table, with a warning where they are not of the same experiment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from kuberml.core.errors import ConfigError
from kuberml.scenario import sections
from kuberml.scenario.aggregate import rank
from kuberml.scenario.markup import Safe, join, section, tag
from kuberml.scenario.report import growth, page, ranking_section
from kuberml.scenario.result import ParadigmResult, Rank, Result, Target
from kuberml.scenario.result_files import read_result, read_runs
from kuberml.scenario.run_summary import RunSummary
from kuberml.scenario.sentence import sentence


class Comparison(msgspec.Struct, frozen=True):
    """Paradigms of several results under one roof.

    Attributes:
        results: by the name that stands for each folder.
        paradigms: "name/label" -> result; just "label" where only one folder has it.
        warnings: why numbers of different folders may not be comparable; () = they are.
    """

    results: dict[str, Result]
    paradigms: dict[str, ParadigmResult]
    ranking: tuple[Rank, ...]
    warnings: tuple[str, ...]
    schema: str = "kuberml.comparison/1"

    @property
    def sentence(self) -> str:
        """What the reader sees, in plain words."""
        return sentence(self.paradigms, self.ranking)


def compare(folders: Sequence[Path]) -> Comparison:
    """Read the results of run folders and put them side by side.

    Raises:
        ConfigError: a folder has no result, or fewer than two are given.
    """
    if len(folders) < 2:
        raise ConfigError("compare needs at least two run folders")
    results = dict(zip(_names(folders), map(read_result, folders), strict=True))
    labels = _labels(results)
    paradigms = {labels[name, label]: item for name, result in results.items() for label, item in result.paradigms.items()}
    return Comparison(results, paradigms, rank(paradigms), tuple(_warnings(results)))


def write_comparison(path: Path, comparison: Comparison, folders: Sequence[Path]) -> Path:
    """Write the comparison as one self-contained page and say where it is."""
    labels = _labels(comparison.results)
    runs = [
        msgspec.structs.replace(run, paradigm=labels[name, run.paradigm])
        for name, folder in zip(comparison.results, folders, strict=True)
        for run in read_runs(folder)
    ]
    path.write_text(render(comparison, runs), encoding="utf-8")
    return path


def render(comparison: Comparison, runs: Sequence[RunSummary]) -> str:
    """The page."""
    head = tag(
        "header", tag("h1", "Comparison of " + ", ".join(comparison.results)), tag("p", comparison.sentence, css="sentence")
    )
    warn = tag("ul", *(tag("li", text) for text in comparison.warnings), css="warn") if comparison.warnings else Safe("")
    body = [
        head,
        warn,
        sections.factors(comparison.paradigms),
        section("How accuracy grew", growth(runs), lead="Bands are one standard deviation over seeds."),
        ranking_section(comparison.ranking, runs),
    ]
    return page("kuberml comparison", join(body))


def _names(folders: Sequence[Path]) -> list[str]:
    """The folder's own name, or its whole path where two are called the same."""
    short = [folder.resolve().name for folder in folders]
    names = [name if short.count(name) == 1 else str(folder) for name, folder in zip(short, folders, strict=True)]
    if len(set(names)) < len(names):
        raise ConfigError(f"the same folder is given twice: {', '.join(map(str, folders))}")
    return names


def _labels(results: dict[str, Result]) -> dict[tuple[str, str], str]:
    every = [label for result in results.values() for label in result.paradigms]
    return {
        (name, label): label if every.count(label) == 1 else f"{name}/{label}"
        for name, result in results.items()
        for label in result.paradigms
    }


def _warnings(results: dict[str, Result]) -> list[str]:
    checks: list[tuple[str, Callable[[Result], object]]] = [
        ("tasks", lambda result: result.task),
        ("data or partition", lambda result: result.scenario.data_digest),
        ("seeds", lambda result: result.scenario.seeds),
        ("targets, so figures to a target do not compare", lambda result: _accuracy(result.target)),
        ("versions of libraries", lambda result: sorted(result.versions.items())),
    ]
    first, *others = results.items()
    broken = [f"{name}: {one}" for name, result in results.items() for one in result.failed]
    return broken + [
        f"{first[0]} and {name} have different {what}"
        for name, other in others
        for what, facet in checks
        if facet(first[1]) != facet(other)
    ]


def _accuracy(target: Target | None) -> float | None:
    return target.accuracy if target else None
