"""Derive the tables that ship inside kuberml from the measurements they come from.

    KUBERML_DATA=... python tools/make_tables.py

writes phones.csv, delays.csv, cities.npz and cellular.toml into src/kuberml/worlds/simulated/tables/. Same data, same bytes.
The measurements stay where they are; README.md in that folder says what each table is and under which licence. The other
tables there are transcriptions or assumptions, and say so. Loaders and statistics are in `traces.py` beside this file.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import traces

from kuberml.worlds.simulated.cellular import Cellular

TABLES = Path(__file__).parent.parent / "src/kuberml/worlds/simulated/tables"
BATCH = 10
"""Samples in a batch of the FEMNIST CNN: the setting of the repository that published the times (they do not say)."""
ANCHORS_MS = {"Xiaomi Redmi Note 8": 588, "Samsung Galaxy Note10": 179}
"""Milliseconds a batch of the middle and the fast phone; the list has two variants of the fast one: their mean score."""
SLOW_SCORE, SLOW_MS = 598, 1642
"""The slow phone (Nexus 6, Snapdragon 805 at 2.7 GHz) is not listed: 421 of the Galaxy S4 (same cores, 1.9 GHz) x 2.7 / 1.9."""
KNOTS_Z = (-3.0, -2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)


def training_flops() -> int:
    """Floating point operations of one batch: 2 a multiply-add, backward pass twice the forward one.

    FEMNIST CNN: 28x28x1, 5x5 convolution to 32, pool 2, 5x5 convolution to 64, pool 2, dense 2048, dense 62.
    """
    forward = 2 * (28 * 28 * 32 * 25 + 14 * 14 * 64 * 25 * 32 + 7 * 7 * 64 * 2048 + 2048 * 62)
    return 3 * forward * BATCH


def speed(score: np.ndarray, anchors: list[tuple[float, float]]) -> np.ndarray:
    """Training flops a second for CPU-float scores: straight lines in log-log between anchors, proportional outside."""
    x, y = np.log(np.array(anchors)).T
    outside = np.log(score) - np.clip(np.log(score), x[0], x[-1])
    return np.exp(np.interp(np.log(score), x, y) + outside)


def phones(data: Path) -> str:
    """phones.csv: percentiles of the CPU-float score of 333 phones and the training speed they stand for."""
    listed = json.loads((data / "device/raw_ai_benchmark_list.json").read_text(encoding="utf-8"))
    anchors = [(float(SLOW_SCORE), training_flops() / SLOW_MS * 1e3)]
    for model, batch_ms in ANCHORS_MS.items():
        scores = [float(phone["CPU_F_AI_Score"]) for phone in listed if phone["Model"].strip() == model]
        anchors.append((float(np.mean(scores)), training_flops() / batch_ms * 1e3))
    score = np.percentile([float(phone["CPU_F_AI_Score"]) for phone in listed], np.arange(101))
    noted = ", ".join(f"{at:.0f} = {flops:.4g}" for at, flops in anchors)
    rows = "".join(f"{p},{s:.0f},{f:.4g}\n" for p, s, f in zip(range(101), score, speed(score, anchors), strict=True))
    return (
        f"# {len(listed)} phones: percentile, CPU-float score (AI-Benchmark 2020, through FLASH), training flops a second.\n"
        f"# Anchors, score = flops/s: {noted}. BSD-2-Clause: README.md.\n"
        f"percentile,cpu_float,flops_per_s\n{rows}"
    )


def delays(data: Path) -> str:
    """delays.csv: percentiles of the one-way delay from a device to the middle of the network, milliseconds.

    wifi: of each of 99 devices the median round trip to the others over 688 times, divided by 4 (two accesses, two ways).
    Cellular: mean ping to a server while downloading, by radio, divided by 2 (one access, two ways).
    """
    rtt_ms = np.median(np.load(data / "network/seattle_rtt.npz")["rtt_cs"], axis=0) * 10.0
    others = ~np.eye(len(rtt_ms), dtype=bool)
    found = {"wifi": np.array([np.median(row[other]) for row, other in zip(rtt_ms, others, strict=True)]) / 4}
    found |= {radio: ping_ms / 2 for radio, ping_ms in traces.pings(data).items()}
    percents = range(101)
    rows = zip(percents, *(np.percentile(ms, percents) for ms in found.values()), strict=True)
    noted = ", ".join(f"{name} {len(ms)}" for name, ms in found.items())
    return (
        f"# One way to the middle of the network, milliseconds. Measurements: {noted}. Sources and licences: README.md.\n"
        f"percentile,{','.join(found)}\n" + "".join(",".join(f"{x:.5g}" for x in row) + "\n" for row in rows)
    )


def cities(data: Path) -> np.ndarray:
    """One-way delays between 227 sites, int16 [227, 227], tenths of a millisecond; invalid (negative) entries are 0."""
    ms = np.genfromtxt(data / "network/wonderproxy_latency_227_ms.csv", delimiter=",")
    return np.rint(np.clip(ms, 0, None) * 10).astype(np.int16)


def fit(sessions: list[np.ndarray]) -> Cellular:
    """The generator's parameters for sessions of one family, each bytes a second [T]; every session weighs the same."""
    level = traces.between_share(sessions)
    z = np.array(KNOTS_Z)
    marginal = np.quantile(traces.pooled([s[s > 0] for s in sessions]), traces.normal_cdf(z))
    starts, outage_s = traces.outages(sessions)
    model = Cellular(KNOTS_Z, tuple(int(r) for r in np.rint(marginal)), level, 0.0, starts, outage_s)
    return traces.match_phi(model, traces.mean_acf(sessions, 1))


def cellular(data: Path) -> str:
    """cellular.toml: parameters and fit errors of each family."""
    parts = ["# Fitted to real traces by tools/make_tables.py; what the fields mean is in cellular.py. No trace is included.\n"]
    for name, sessions in traces.families(data).items():
        model = fit(sessions)
        errors = traces.errors(model, sessions)
        fields = {"z": list(KNOTS_Z), "rate": list(model.rate_bytes_s_K), "level": model.level, "phi": model.phi}
        fields |= {"outage_starts": model.outage_starts, "outage_s": model.outage_s}
        fields |= {"sessions": len(sessions), "seconds": sum(map(len, sessions))}
        fields |= {f"error_{key}": round(value, 3) for key, value in errors.items()}
        parts.append(f"\n[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in fields.items()))
    return "".join(parts)


def main() -> None:
    """Write all tables."""
    if "KUBERML_DATA" not in os.environ:
        sys.exit("set KUBERML_DATA to the folder with device/ and network/")
    data = Path(os.environ["KUBERML_DATA"])
    for name, make in {"phones.csv": phones, "delays.csv": delays, "cellular.toml": cellular}.items():
        (TABLES / name).write_text(make(data), encoding="utf-8")
    np.savez_compressed(TABLES / "cities.npz", table=cities(data))


if __name__ == "__main__":
    main()
