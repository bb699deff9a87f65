"""The section of the report about the served cloud model: its curves, its measures, and every R[t][i]."""

from __future__ import annotations

from collections.abc import Callable

from kuberml.scenario import plots, served_words
from kuberml.scenario.markup import Safe, fold, heat, join, section, table, tag
from kuberml.scenario.result import ParadigmResult
from kuberml.scenario.served_result import ServedResult

Figure = Callable[[str, Callable[[], str]], Safe]
_BLUE = (0, 114, 178)


def served(paradigms: dict[str, ParadigmResult], figure: Figure) -> Safe:
    """The section; nothing where no data arrive over time. `figure`: see `report.figure`."""
    found = {label: item.served for label, item in paradigms.items() if item.served is not None}
    if not found:
        return Safe("")
    first = next(iter(found.values()))
    joint = f" (here: {first.joint})" if first.joint else ""
    lead = (
        "Accuracy of the model that the server serves, every task alike. At the end: on all tasks. On the way: on what some"
        " learner had met by then, mean over the ends of the periods. BWT and forgetting also move where nothing is lost, since"
        f" old tasks are asked among more and more labels; the gap to joint training{joint} does not. FWT is against chance."
        " Answered after: from a task's first arrival to the first served model that is right about it more often than not,"
        " median over tasks; never: tasks of which none was. ± is one standard deviation over seeds. Dotted: a task comes."
    )
    seen = figure("On what had been met by then", lambda: plots.served_over_time(found, "seen"))
    every = figure("On everything, also what was still to come", lambda: plots.served_over_time(found, "every"))
    head = ["paradigm", *(column.heading for column in served_words.COLUMNS)]
    notes = [f"{label}: nobody serves it; the mean over its learners" for label, one in found.items() if one.whose != "server"]
    return section(
        "The served cloud model",
        tag("div", seen, every, css="figures"),
        table(head, _rows(paradigms, found), css="wide"),
        *(tag("p", note, css="lead") for note in notes),
        fold("R[t][i]: accuracy on each task at the end of each period", *(_matrix(*pair) for pair in found.items())),
        lead=lead,
    )


def _rows(paradigms: dict[str, ParadigmResult], found: dict[str, ServedResult]) -> list[list[Safe]]:
    colours = plots.colour_of(list(found))
    rows = []
    for label, one in found.items():
        cells = [tag("td", column.value(one), tag("small", column.spread(one))) for column in served_words.COLUMNS]
        rows.append([join([tag("span", css="chip", style=f"background:{colours[label]}"), label]), *cells])
    return rows


def _matrix(label: str, one: ServedResult) -> Safe:
    rows = []
    for t, row in enumerate(one.accuracy, start=1):
        shares = zip(one.tasks, row, strict=True)
        rows.append(
            [f"t = {t}", *(heat(f"{100 * share:.0f}", share, f"{label}: {name}", colour=_BLUE) for name, share in shares)]
        )
    return join([tag("h3", label), table(["period", *one.tasks], rows, css="map")])
