"""Plots of a result as inline SVG (extra `report`: matplotlib). The same result gives the same bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from kuberml.core.errors import MissingExtra
from kuberml.core.units import show_bytes, show_seconds
from kuberml.scenario.curves import combine
from kuberml.scenario.run_summary import CurvePoint, RunSummary
from kuberml.scenario.served_result import ServedResult

# Okabe and Ito's colours, told apart also by the colour-blind, then darker ones for long tables.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#8C564B", "#4D4D4D", "#B59F00")
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)))
_SIZE = (5.2, 3.5)
_LOG_FROM = 20  # ends that differ by more are drawn on a logarithmic axis

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "kuberml",
    "text.parse_math": False,  # a paradigm's label may hold a "$"
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a94a3",
    "axes.grid": True,
    "grid.color": "#e6e9ee",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.transparent": True,
}


def colour_of(labels: Sequence[str]) -> dict[str, str]:
    """A colour for each paradigm, the same in every plot and table."""
    return {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(labels)}


def dashes_of(labels: Sequence[str]) -> dict[str, Any]:
    """A line style for each paradigm: where colours begin again, lines differ by their dashes."""
    return {label: DASHES[i // len(COLOURS) % len(DASHES)] for i, label in enumerate(labels)}


def over_time(runs: Sequence[RunSummary], target: float | None = None) -> str:
    """Mean accuracy over time, virtual but for live runs, with one deviation over seeds as a band. SVG text."""
    title = "virtual time" if any(run.trace_hash for run in runs) else "time"
    return _curves(runs, lambda point: point.time_s, title, show_seconds, target)


def over_bytes(runs: Sequence[RunSummary], target: float | None = None) -> str:
    """Mean accuracy over all bytes moved so far, with one deviation over seeds as a band. SVG text."""
    return _curves(runs, lambda point: point.bytes, "bytes moved, all learners together", show_bytes, target)


def learners(runs: Sequence[RunSummary]) -> str:
    """Every honest learner's accuracy under every paradigm as a dot, the mean as a bar. SVG text."""
    by_label = _group(runs)
    colours = colour_of(list(by_label))

    def draw(axes: Any) -> None:
        for row, (label, mine) in enumerate(by_label.items()):
            dots = [100 * value for run in mine for node, value in sorted(run.accuracy.items()) if node not in run.liars]
            spread = [row + 0.28 * ((i * 0.618034) % 1 - 0.5) for i in range(len(dots))]
            axes.scatter(dots, spread, s=11, color=colours[label], alpha=0.45, linewidths=0)
            if dots:
                axes.plot([sum(dots) / len(dots)] * 2, [row - 0.3, row + 0.3], color=colours[label], lw=2.5)
        axes.set_yticks(range(len(by_label)), list(by_label))
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("accuracy of each honest learner, %")

    return _svg(draw, height=0.9 + 0.36 * len(by_label))


def served_over_time(served: Mapping[str, ServedResult], what: Literal["seen", "every"]) -> str:
    """Accuracy of the served model over virtual time: on what had been met, or on everything. SVG text."""
    colours, dashes = colour_of(list(served)), dashes_of(list(served))

    def draw(axes: Any) -> None:
        ends_s = [one.curve[-1].time_s for one in served.values() if one.curve]
        first = next(iter(served.values()))
        last_s = max([*ends_s, first.period_s * len(first.tasks)])
        for t in range(len(first.tasks)):
            axes.axvline(t * first.period_s, color="#8a94a3", lw=0.8, ls=":")
        for label, one in served.items():
            x = [*(point.time_s for point in one.curve), last_s]  # what is served stays
            y = [100 * getattr(point, what) for point in one.curve]
            y += y[-1:]
            axes.step(x, y, where="post", color=colours[label], lw=1.8, ls=dashes[label], label=_named(label))
            if one.curve_std is not None:
                std = [100 * getattr(point, what) for point in one.curve_std]
                low, high = ([value + sign * s for value, s in zip(y, [*std, std[-1]], strict=True)] for sign in (-1, 1))
                axes.fill_between(x, low, high, step="post", color=colours[label], alpha=0.15, linewidth=0)
        axes.set_ylim(0, 100)
        _label(axes, "time", show_seconds)

    return _svg(draw, height=_SIZE[1] + 0.17 * ((len(served) + 2) // 3))


def _curves(
    runs: Sequence[RunSummary],
    x_of: Callable[[CurvePoint], float],
    title: str,
    show: Callable[[float], str],
    target: float | None,
) -> str:
    by_label = _group(runs)
    colours, dashes = colour_of(list(by_label)), dashes_of(list(by_label))

    def draw(axes: Any) -> None:
        ends = [_line(axes, label, mine, colours[label], dashes[label], x_of) for label, mine in by_label.items()]
        ends = [end for end in ends if end > 0]
        if ends and max(ends) / min(ends) > _LOG_FROM:
            axes.set_xscale("log")
        if target is not None:
            axes.axhline(100 * target, color="#8a94a3", lw=1, ls=(0, (4, 3)))
        _label(axes, title, show, "accuracy, % (0: serves nothing yet)")

    return _svg(draw, height=_SIZE[1] + 0.17 * ((len(by_label) + 2) // 3))


def _label(axes: Any, title: str, show: Callable[[float], str], ylabel: str = "accuracy, %") -> None:
    axes.xaxis.set_major_formatter(lambda x, _: show(x) if x > 0 else "0")
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel(title)
    axes.set_ylabel(ylabel)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, fontsize=8, handlelength=1.4, columnspacing=1.2)


def _line(
    axes: Any, label: str, runs: list[RunSummary], colour: str, dashes: Any, x_of: Callable[[CurvePoint], float]
) -> float:
    """Draw one paradigm; the x of its end. A step is held: between two measurements nothing is known to have changed."""
    means, stds = combine([run.curve for run in runs])
    if not means:
        return 0.0
    x = [x_of(point) for point in means]
    y = [100 * point.accuracy_mean for point in means]
    if x[-1] <= 0:  # moved nothing: a level without a length
        axes.axhline(y[-1], color=colour, lw=1.4, ls=":", label=_named(label))
        return 0.0
    axes.step(x, y, where="post", color=colour, lw=1.8, ls=dashes, label=_named(label))
    axes.plot(x[-1:], y[-1:], "o", ms=4, color=colour)
    if stds is not None:
        low = [value - 100 * std.accuracy_mean for value, std in zip(y, stds, strict=True)]
        high = [value + 100 * std.accuracy_mean for value, std in zip(y, stds, strict=True)]
        axes.fill_between(x, low, high, step="post", color=colour, alpha=0.15, linewidth=0)
    return x[-1]


def _named(label: str) -> str:
    """For a legend, which would leave out what begins with an underscore."""
    return f" {label}" if label.startswith("_") else label


def _svg(draw: Callable[[Any], None], height: float) -> str:
    try:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("drawing plots", "report") from error
    with matplotlib.rc_context(_STYLE):
        figure: Any = Figure(figsize=(_SIZE[0], height), layout="constrained")
        draw(figure.add_subplot())
        text = io.StringIO()
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(text, metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    return _responsive(svg[svg.index("<svg") :])


def _responsive(svg: str) -> str:
    """Without a fixed width and height, so that the page decides; without the metadata block."""
    head, rest = svg.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    return head + ' role="img">' + re.sub(r"<metadata>.*?</metadata>", "", rest, flags=re.DOTALL)


def _group(runs: Sequence[RunSummary]) -> dict[str, list[RunSummary]]:
    by_label: dict[str, list[RunSummary]] = {}
    for run in runs:
        by_label.setdefault(run.paradigm, []).append(run)
    return by_label
