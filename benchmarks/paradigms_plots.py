"""Figures of what `paradigms.py` measured: one cell over virtual time, and what grows with the number of learners.

python benchmarks/paradigms_plots.py results/paradigms headline docs/img/headline.png
python benchmarks/paradigms_plots.py results/paradigms scale docs/img/scale.png
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot

Run = dict[str, Any]
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#8C564B", "#4D4D4D", "#B59F00")
DRAWN = ("kuber", "fed3r", "fedavg", "scaffold", "fedadam", "fedbuff", "dpsgd", "epidemic", "adpsgd", "aedfl")
"""In one cell: a line each; more cannot be told apart."""
PANELS = {
    "accuracy": ("accuracy of the learners, %", lambda run, n: 100 * run["accuracy"]),
    "time": ("virtual time until the end, s", lambda run, n: run["virtual_time_s"]),
    "bytes": ("MB moved a learner", lambda run, n: run["bytes"] / n / 1e6),
    "freshness": ("median freshness, s", lambda run, n: run["freshness_median_s"]),
}


def read(folder: Path) -> dict[str, dict[str, list[Run]]]:
    """Runs by cell and paradigm."""
    runs: dict[str, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(folder.glob("*.json")):
        run = json.loads(path.read_text())
        runs[run["cell"]][run["paradigm"]].append(run)
    return runs


def over_time(by_label: dict[str, list[Run]], path: Path) -> None:
    """Mean accuracy of all devices over virtual time, one thin line a seed: measured points, joined."""
    figure, axes = pyplot.subplots(figsize=(7.5, 4.2))
    for colour, label in zip(COLOURS, [one for one in DRAWN if one in by_label], strict=False):
        for place, run in enumerate(by_label[label]):
            times_s, _, accuracy = zip(*run["curve"], strict=True)
            axes.plot(
                times_s, [100 * one for one in accuracy], color=colour, lw=1.3, alpha=0.85, label=None if place else label
            )
    axes.set(xscale="log", xlabel="virtual time, s", ylabel="accuracy, mean over devices, %")
    _save(figure, axes, path)


def over_scale(runs: dict[str, dict[str, list[Run]]], path: Path) -> None:
    """What each paradigm comes to with 10, 100, ... learners."""
    cells = sorted((int(name.removeprefix("scale-")), by_label) for name, by_label in runs.items() if name.startswith("scale-"))
    labels = sorted({label for _, by_label in cells for label in by_label})
    figure, grid = pyplot.subplots(2, 2, figsize=(8.5, 6.2))
    for axes, (title, of) in zip(grid.flat, PANELS.values(), strict=True):
        for colour, label in zip(COLOURS, labels, strict=False):
            found = [(n, of(run, n)) for n, by_label in cells for run in by_label.get(label, [])]
            there = [(n, value) for n, value in found if value is not None]
            axes.plot([n for n, _ in there], [value for _, value in there], marker="o", color=colour, label=label)
        axes.set(xscale="log", xlabel="learners", ylabel=title, yscale="linear" if "accuracy" in title else "log")
    _save(figure, grid.flat[0], path)


def _save(figure: Any, legend: Any, path: Path) -> None:
    legend.legend(frameon=False, fontsize=8)
    for axes in figure.axes:
        axes.grid(color="#e6e9ee")
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("what", help="a cell's name, or scale")
    parser.add_argument("out", type=Path, help="a .png or .svg")
    args = parser.parse_args()
    runs = read(args.results)
    if args.what == "scale":
        over_scale(runs, args.out)
    else:
        over_time(runs[args.what], args.out)


if __name__ == "__main__":
    main()
