"""Real cellular traces and the statistics that the fitted generator is held against.

A session is one recorded trace: bytes a second, float64 [T]. The traces are GPL-3.0: they are read here and never shipped.
"""

from __future__ import annotations

import csv
import io
import math
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from kuberml.core.rng import rng
from kuberml.worlds.simulated.cellular import Cellular

MAHIMAHI = {
    "lte-down": (
        "ATT-LTE-driving-2016.down",
        "ATT-LTE-driving.down",
        "TMobile-LTE-driving.down",
        "TMobile-LTE-short.down",
        "Verizon-LTE-short.down",
    ),
    "lte-up": ("ATT-LTE-driving-2016.up", "ATT-LTE-driving.up", "TMobile-LTE-short.up", "Verizon-LTE-short.up"),
    "3g-down": ("TMobile-UMTS-driving.down", "Verizon-EVDO-driving.down"),
    "3g-up": ("TMobile-UMTS-driving.up", "Verizon-EVDO-driving.up"),
}
PACKET_BYTES = 1500
DRAWS, DRAW_S = 300, 600
"""Sessions that the generator draws to be measured, and their length in seconds."""


def families(data: Path) -> dict[str, list[np.ndarray]]:
    """All families by name, in a fixed order."""
    archive = np.load(data / "network/mahimahi_cellular.npz")
    found = {name: [_per_second(archive[trace]) for trace in members] for name, members in MAHIMAHI.items()}
    return found | _download_5g(data)


def _per_second(packets_ms: np.ndarray) -> np.ndarray:
    whole = len(packets_ms) // 1000 * 1000
    return packets_ms[:whole].reshape(-1, 1000).sum(axis=1) * float(PACKET_BYTES)


def _csv_5g(data: Path) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """(path, rows) of each bulk download, in order of path. Streaming is left out: the video limits its rate."""
    with zipfile.ZipFile(data / "network/5G-production-dataset.zip") as archive:
        for path in sorted(archive.namelist()):
            if path.startswith("5G") and "/Download/" in path and path.endswith(".csv"):
                yield path, list(csv.DictReader(io.StringIO(archive.read(path).decode("utf-8"))))


def _download_5g(data: Path) -> dict[str, list[np.ndarray]]:
    found: dict[str, list[np.ndarray]] = {"5g-static-down": [], "5g-driving-down": []}
    for path, rows in _csv_5g(data):
        found[f"5g-{path.split('/')[2].lower()}-down"].append(_seconds_5g(rows))
    return found


def _seconds_5g(rows: list[dict[str, str]]) -> np.ndarray:
    """Rows of one second are averaged; rows outside a download are left out."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row["State"] == "D":
            seconds[row["Timestamp"]].append(float(row["DL_bitrate"]) * 125)
    return np.array([np.mean(seconds[second]) for second in sorted(seconds)])


def pings(data: Path) -> dict[str, np.ndarray]:
    """Mean pings during the downloads by radio, milliseconds."""
    found: dict[str, list[float]] = {"5g": [], "lte": [], "3g": []}
    for _, rows in _csv_5g(data):
        for row in rows:
            if row["PINGAVG"] not in ("", "-"):
                found[{"5G": "5g", "LTE": "lte"}.get(row["NetworkMode"], "3g")].append(float(row["PINGAVG"]))
    return {radio: np.array(ms) for radio, ms in found.items()}


def normal_cdf(z: np.ndarray) -> np.ndarray:
    """Standard normal distribution function."""
    return np.array([(1 + math.erf(x / math.sqrt(2))) / 2 for x in z])


def pooled(sessions: list[np.ndarray]) -> np.ndarray:
    """1,000 mid-point quantiles of each session, together: every session weighs the same, however long."""
    return np.concatenate([np.quantile(s, (np.arange(1000) + 0.5) / 1000) for s in sessions if len(s)])


def mean_acf(sessions: list[np.ndarray], lag: int) -> float:
    """Autocorrelation at `lag` seconds, mean over sessions."""
    centred = [s - s.mean() for s in sessions]
    return float(np.mean([(s[lag:] @ s[:-lag]) / (s @ s) for s in centred if s.any()]))


def between_share(sessions: list[np.ndarray]) -> float:
    """Share of the variance of the ranks that lies between sessions (one-way analysis of variance), 0..1."""
    up = [s[s > 0] for s in sessions]
    pool = np.sort(pooled(up))
    ranks = [np.searchsorted(pool, s) / len(pool) for s in up]
    between = float(np.var([r.mean() for r in ranks], ddof=1))
    return round(min(between / (between + float(np.mean([r.var() for r in ranks]))), 0.95), 3)


def outages(sessions: list[np.ndarray]) -> tuple[float, float]:
    """(chance that an outage starts in a second without one, mean length of an outage in seconds)."""
    begun = sum(int(np.sum((s[1:] == 0) & (s[:-1] > 0))) for s in sessions)
    up, out = (sum(int(np.sum(test(s))) for s in sessions) for test in (lambda s: s > 0, lambda s: s == 0))
    return (round(begun / up, 5), round(max(out / begun, 1.0), 2)) if begun else (0.0, 1.0)


def draws(model: Cellular) -> list[np.ndarray]:
    """The sessions by which the model is measured: always the same ones."""
    return [model.rates(rng(0, "measure cellular", k), DRAW_S).astype(float) for k in range(DRAWS)]


def match_phi(model: Cellular, acf: float) -> Cellular:
    """The model with the phi whose draws have this autocorrelation at one second (bisection: it grows with phi)."""
    low, high = 0.0, 0.999
    for _ in range(9):
        phi = round((low + high) / 2, 4)
        model = msgspec.structs.replace(model, phi=phi)
        low, high = (phi, high) if mean_acf(draws(model), 1) < acf else (low, phi)
    return model


def errors(model: Cellular, sessions: list[np.ndarray]) -> dict[str, float]:
    """How far draws of the model are from the sessions.

    Returns:
        ks: largest difference of the distribution functions of the rate (Kolmogorov-Smirnov), 0..1.
        mean: relative error of the mean rate. acf1, acf5: error of the autocorrelation at 1 and at 5 seconds.
    """
    drawn = draws(model)
    a, b = np.sort(pooled(sessions)), np.sort(pooled(drawn))
    at = np.union1d(a, b)
    ks = np.abs(np.searchsorted(a, at, side="right") / len(a) - np.searchsorted(b, at, side="right") / len(b)).max()
    acf = {f"acf{lag}": mean_acf(drawn, lag) - mean_acf(sessions, lag) for lag in (1, 5)}
    return {"ks": float(ks), "mean": float(b.mean() / a.mean() - 1), **acf}
