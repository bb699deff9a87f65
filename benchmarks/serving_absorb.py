"""What answers cost while a large packet is taken in: hub, service and edge as real processes, one client that asks steadily.

    python benchmarks/serving_absorb.py [--dims 4400] [--rate 50] [--json out.json]

The service has a version first. Then an edge publishes a packet of `--dims` features (4,400: 30 MB), and the client goes on
asking until the version with it answers. p50, p99 and the slowest, before and during.
"""

from __future__ import annotations

import argparse
import http.client
import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from serving_freshness import ask, process, told

import kuberml
from kuberml.knowledge.columns import encode
from kuberml.knowledge.kinds.extractor import basis_of
from kuberml.knowledge.kinds.statistics import Statistics, describe
from kuberml.learning.extractors import identity

LABELS = tuple("0123456789")
QUIET_S, PATIENCE_S = 10.0, 400.0


class Client:
    """Asks one row at a steady rate over one connection, and notes how long each answer took from when it was due."""

    def __init__(self, url: str, x_1k: Any, rate: float) -> None:
        self._address, self._body, self._every_s = url.split("//")[1], np.asarray(x_1k, "<f4").tobytes(), 1 / rate
        self.took_s: list[tuple[float, float]] = []
        self.failed = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=60)
        due_s = time.monotonic()
        while not self._ending.is_set():
            time.sleep(max(0.0, due_s - time.monotonic()))
            connection.request("POST", "/v1/predict", self._body, {"Content-Type": "application/octet-stream"})
            answer = connection.getresponse()
            answer.read()
            self.failed += answer.status != 200
            self.took_s.append((due_s, time.monotonic() - due_s))
            due_s = max(due_s + self._every_s, time.monotonic() - 1.0)
        connection.close()

    def close(self) -> None:
        self._ending.set()
        self._thread.join()

    def between(self, start_s: float, stop_s: float) -> dict[str, float]:
        took_ms = 1e3 * np.array([took for due, took in self.took_s if start_s <= due < stop_s])
        p50, p99 = (round(float(np.quantile(took_ms, q)), 2) for q in (0.5, 0.99))
        return {"answers": len(took_ms), "p50_ms": p50, "p99_ms": p99, "slowest_ms": round(float(took_ms.max()), 2)}


def packet(features: int, count: int, seed: int) -> Statistics:
    rng = np.random.default_rng(seed)
    means_Ck = np.random.default_rng(0).uniform(0.3, 0.7, (len(LABELS), features))
    y_N = np.arange(count) % len(LABELS)
    x_Nk = np.clip(means_Ck[y_N] + rng.normal(0, 0.3, (count, features)), 0, 1).astype(np.float32)
    return describe(x_Nk, [LABELS[y] for y in y_N], basis=basis_of(identity(features)))[0]


def until(url: str, taught: int) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while len(ask(url, "/v1/origin?label=0").get("taught", [])) < taught:
        if time.monotonic() > end_s:
            raise SystemExit(f"it was not taken in within {PATIENCE_S:g} s: {ask(url, '/v1/health')}")
        time.sleep(0.2)


def measure(folder: Path, features: int, rate: float) -> dict[str, Any]:
    rng = np.random.default_rng(9)
    x_Nk, y_N = rng.uniform(0, 1, (100, features)).astype(np.float32), np.arange(100) % len(LABELS)
    first, second = packet(features, 200, 1), packet(features, 3000, 2)
    with process(folder, "hub", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--json", "--quiet") as hub:
        address = told(hub)["address"]
        own = {"key": folder / "commons.key", "vault": folder / "commons"}
        kuberml.agree(address, task="vectors", labels=LABELS, x=x_Nk, extractor=identity(features), **own)
        arguments = ("--hub", address, "--task", "vectors", "--http", "127.0.0.1:0", "--engine", "eager", "--quiet", "--json")
        with process(folder, "serve", *arguments) as cloud:
            url = told(cloud)["http"]
            own = {"key": folder / "edge.key", "vault": folder / "edge"}
            with kuberml.join(address, task="vectors", name="edge", labels=LABELS, data=(x_Nk, y_N), **own) as me:
                me.publish(first, slot="first")
                until(url, 1)
                client = Client(url, x_Nk[:1], rate)
                time.sleep(QUIET_S)
                began_s = time.monotonic()
                me.publish(second, slot="second")
                until(url, 2)
                ended_s = time.monotonic()
                client.close()
    return {
        "dims": features, "packet_bytes": len(encode(second)[0]), "rate": rate, "taken_in_s": round(ended_s - began_s, 1),
        "failed": client.failed, "quiet": client.between(began_s - QUIET_S, began_s),
        "during": client.between(began_s, ended_s),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dims", type=int, default=4400)
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second, of one row each")
    parser.add_argument("--json", type=Path)
    wish = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kuberml-absorb-") as folder:
        found = measure(Path(folder), wish.dims, wish.rate)
    print(json.dumps(found))
    if wish.json:
        wish.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
