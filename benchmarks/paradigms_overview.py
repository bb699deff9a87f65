"""From single runs to tables: every cell, then the margins of ours over the grid, its median cell beside its best.

Means over seeds, ± sample deviation. A time to a target is the first measured point at or over it, averaged over the seeds that
reach it; how many do stands behind it where not all do.
"""

from __future__ import annotations

import json
from collections import defaultdict

from kuberml.scenario.spread import deviation, mean

OURS = {"aedfl": ("adpsgd", "fedavg"), "kuber": ("fedavg", "adpsgd", "aedfl", "fed3r")}
HEAD = ("paradigm", "seeds", "devices", "worst tenth", "mean model", *("to {:.0%}",) * 3, "virtual time", "bytes", "PFLOP",
        "energy", "freshness", "fast - slow")  # fmt: skip


def overview(folder, cells):
    """Markdown of all that a folder of results holds."""
    runs = defaultdict(lambda: defaultdict(list))
    for path in sorted(folder.glob("*.json")):
        run = json.loads(path.read_text())
        runs[run["cell"]][run["paradigm"]].append(run)
    if not runs:
        return f"no results in {folder}"
    commits = sorted({run["commit"] for cell in runs.values() for mine in cell.values() for run in mine})
    lines = [f"Commits: {', '.join(commits)}.", ""]
    for name, cell in cells.items():
        if name in runs:
            lines += [f"### {name}", "", *table(cell, runs[name]), ""]
    return "\n".join([*lines, *margins(cells, runs)])


def table(cell, by_label):
    """One cell's rows, the most accurate first."""
    judge = "" if cell.judge == "test" else f" Judged on {cell.judge} samples: for tuning only."
    rate = f"lr {cell.lr}" if cell.lr else "tuned learning rates"
    spent = f"{cell.for_s:g} virtual seconds for everybody" if cell.for_s else f"{cell.rounds} epochs each on average"
    about = (
        f"{cell.dataset}, {cell.model}, {cell.learners} learners, {cell.partition} {cell.spread}, {cell.topology} graph, "
        f"{spent}, {rate}, {cell.limit or 'all'} training images.{judge}"
    )
    if cell.dataset == "cifar10":
        about += " CIFAR-10: trained on batches 1-4, tested on batch 5, which is not the official test set."
    head = [text.format(*[cell.targets[place - 5]] if "{" in text else []) for place, text in enumerate(HEAD)]
    rows = [about, "", "| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    order = sorted(by_label, key=lambda label: -(mean(run["accuracy"] for run in by_label[label]) or 0))
    for label in order:
        mine = by_label[label]
        gaps = [r["accuracy_fast"] - r["accuracy_slow"] if r["accuracy_fast"] is not None else None for r in mine]
        cells_ = [
            label, str(len(mine)), points(mine, "accuracy"), points(mine, "accuracy_p10"), points(mine, "accuracy_mean_model"),
            *(said_time(mine, target) for target in cell.targets), seconds(mean(r["virtual_time_s"] for r in mine)),
            size(mean(r["bytes"] for r in mine)), f"{mean(r['flops'] for r in mine) / 1e15:.3g}",
            f"{mean(r['energy_j'] for r in mine) / 1000:.3g} kJ", seconds(mean(r["freshness_median_s"] for r in mine)),
            "-" if mean(gaps) is None else f"{100 * mean(gaps):+.1f}",
        ]  # fmt: skip
        rows.append("| " + " | ".join(cells_) + " |")
    return rows


def margins(cells, runs):
    """Ours against each baseline, in every cell where both are there, over the seeds that both have."""
    lines = []
    for ours, others in OURS.items():
        for other in others:
            found = []
            for name, cell in cells.items():
                pairs = paired(runs.get(name, {}), ours, other)
                if pairs and cell.judge == "test" and not name.startswith("smoke"):
                    gain = 100 * mean(a["accuracy"] - b["accuracy"] for a, b in pairs)
                    ends = [(reached(a, cell.targets[1]), reached(b, cell.targets[1])) for a, b in pairs]
                    both = [(a, b) for a, b in ends if a is not None and b]
                    spent = 100 * mean(a["flops"] / b["flops"] - 1 for a, b in pairs if b["flops"])
                    found.append((name, len(pairs), gain, 100 * mean(a / b - 1 for a, b in both) if both else None, spent))
            if found:
                lines += [f"### {ours} against {other}", "", "| cell | seeds | accuracy, points | time to target | compute |"]
                lines += ["| --- | --- | --- | --- | --- |", *(margin(*row) for row in found)]
                accuracy = spread([row[2] for row in found], most=True)
                faster = spread([row[3] for row in found if row[3] is not None], most=False)
                spent = spread([row[4] for row in found], most=False)
                lines.append(f"Best / median of {len(found)} cells: accuracy {accuracy}, time {faster}, compute {spent}.")
                lines.append("")
    return lines


def paired(by_label, ours, other):
    """Runs of both with the same seed."""
    theirs = {run["seed"]: run for run in by_label.get(other, [])}
    pairs = [(run, theirs[run["seed"]]) for run in by_label.get(ours, []) if run["seed"] in theirs]
    return [(a, b) for a, b in pairs if a["accuracy"] is not None and b["accuracy"] is not None]


def margin(name, seeds, gain, faster, spent):
    return f"| {name} | {seeds} | {gain:+.1f} | {'-' if faster is None else f'{faster:+.1f} %'} | {spent:+.1f} % |"


def spread(values, *, most):
    """The best of some values beside their median."""
    if not values:
        return "-"
    order = sorted(values, reverse=most)
    return f"{order[0]:+.1f} / {order[len(order) // 2]:+.1f}"


def reached(run, target):
    """Virtual seconds until a target; None: never measured there."""
    return next((time_s for time_s, _, accuracy in run["curve"] if accuracy >= target), None)


def said_time(mine, target):
    found = [reached(run, target) for run in mine]
    there = [one for one in found if one is not None]
    counted = "" if len(there) == len(found) else f" ({len(there)}/{len(found)})"
    return seconds(mean(there)) + counted if there else "-"


def points(mine, name):
    values = [run[name] for run in mine]
    if mean(values) is None:
        return "-"
    apart = deviation(values)
    return f"{100 * mean(values):.1f}" + (f" ± {100 * apart:.1f}" if apart is not None else "") + " %"


def seconds(value):
    return "-" if value is None else f"{value:.3g} s" if value < 1000 else f"{value:,.0f} s"


def size(value):
    return "-" if value is None else f"{value / 1e6:,.3g} MB" if value < 1e9 else f"{value / 1e9:,.3g} GB"
