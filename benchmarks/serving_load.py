"""`kuberml serve` under load: a real client on loopback, the service in a process of its own, slices interleaved in one run.

    python benchmarks/serving_load.py [--rows 1] [--engine auto] [--slices 8] [--slice-s 2] [--json out.json]

1. saturation: closed loop, 32 connections, requests as quick as they are answered: answers and rows a second.
2. latency: open loop at half of that: p50, p99; in turn without swaps and with ten swaps a second. A swap is what the service
   does when knowledge arrives: packets are merged, the head is solved, an engine is built, and put in place.
3. overload: open loop at twice of saturation, in requests of 256 rows: what is answered, how late, what is told 429, and
   whether anything else happens.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

ROOT = Path(__file__).parents[1]
CONNECTIONS, SWAP_EVERY_S = 32, 0.1
OVERLOAD_ROWS = 256
RAW = "application/octet-stream"


# --- the service ------------------------------------------------------------------------------------------------------


def serve(engine: str) -> None:
    """In a process of its own: prints its port, then swaps as long as stdin says so."""
    from kuberml.core.ids import digest_of
    from kuberml.core.values import digest
    from kuberml.exchange.continual.served import Served
    from kuberml.knowledge.kinds.extractor import basis_of
    from kuberml.knowledge.kinds.statistics import describe, merge_all, solve
    from kuberml.learning.datasets import DATASETS
    from kuberml.learning.extractors import features, patch_filters
    from kuberml.learning.predictor import HeadOn
    from kuberml.serving.service import Service, Settings
    from kuberml.worlds.live.blobs.background import step_back
    from kuberml.worlds.member.background import Background

    digits = DATASETS.get("digits")
    public, train = digits.split("public"), digits.split("train")
    extractor = patch_filters(public.x_N, patch=3, filters=32, grid=2, sides=1, components=64)
    z_Nd, names = features(extractor, train.x_N), [digits.labels[at] for at in train.y_N]
    edges = [describe(z_Nd[k::10], names[k::10], basis=basis_of(extractor))[0] for k in range(10)]

    def version(number: int) -> Served:
        sums = merge_all(edges[: 9 + number % 2])  # the tenth edge comes and goes
        predictor = HeadOn(extractor, solve(sums), train.x_N.shape[1:])
        return Served(number, digest_of(str(number % 2).encode()), digest(predictor), predictor, train.x_N.shape[1:], {}, 0)

    background, service = Background("service"), Service(Settings(engine=engine, patience_s=300.0))
    service.calibration = public
    port = background.run(service.open("127.0.0.1", 0))
    service.take(version(0)).result()
    used = service.slot.now.engine  # type: ignore[union-attr]
    print(json.dumps({"port": port, "engine": [used.name, used.precision]}), flush=True)
    swapping, stopping = threading.Event(), threading.Event()

    def swap() -> None:
        step_back()  # as the service's jobs
        number = 1
        while not stopping.is_set():
            if swapping.wait(0.05):
                service.take(version(number)).result()
                number += 1
                time.sleep(SWAP_EVERY_S)

    thread = threading.Thread(target=swap)
    thread.start()
    for line in sys.stdin:
        (swapping.set if line.strip() == "swap" else swapping.clear)()
        print(json.dumps({"swaps": service.slot.swaps}), flush=True)
    stopping.set()
    thread.join()
    background.run(service.close())
    background.close()


class Server:
    """That process."""

    def __init__(self, engine: str) -> None:
        paths = {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen([sys.executable, __file__, "--serve", engine], env={**os.environ, **paths}, text=True,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
        self.told = json.loads(self._process.stdout.readline())  # type: ignore[union-attr]
        self.url = f"http://127.0.0.1:{self.told['port']}/v1/predict"

    def swapping(self, on: bool) -> int:
        """Switch swaps on or off; how many there were so far."""
        self._process.stdin.write("swap\n" if on else "rest\n")  # type: ignore[union-attr]
        self._process.stdin.flush()  # type: ignore[union-attr]
        return int(json.loads(self._process.stdout.readline())["swaps"])  # type: ignore[union-attr]

    def close(self) -> None:
        self._process.communicate(timeout=30)


# --- the client -------------------------------------------------------------------------------------------------------


class Load:
    """Requests of a few rows of the digits test set, and what became of them."""

    def __init__(self, client: aiohttp.ClientSession, url: str, rows: int) -> None:
        from kuberml.learning.datasets import DATASETS

        x_N = np.resize(DATASETS.get("digits").split("test").x_N, (rows, 8, 8, 1))
        self._client, self._url, self._body = client, url, x_N.astype("<f4").tobytes()
        self._headers = {"Content-Type": RAW, "Accept": RAW}
        self.latency_s: list[float] = []
        self.statuses: Counter[str] = Counter()

    async def one(self, due_s: float | None = None) -> None:
        """One request; its latency counts from when it was due."""
        began_s = time.perf_counter() if due_s is None else due_s
        try:
            async with self._client.post(self._url, data=self._body, headers=self._headers) as answer:
                await answer.read()
                self.statuses[str(answer.status)] += 1
                if answer.status == 200:
                    self.latency_s.append(time.perf_counter() - began_s)
        except (aiohttp.ClientError, OSError) as error:
            self.statuses[type(error).__name__] += 1

    async def closed(self, seconds: float, connections: int = CONNECTIONS) -> float:
        """As quick as they are answered; answers a second."""
        end_s, before, began_s = time.perf_counter() + seconds, self.statuses["200"], time.perf_counter()

        async def ask() -> None:
            while time.perf_counter() < end_s:
                await self.one()

        await asyncio.gather(*(ask() for _ in range(connections)))
        return (self.statuses["200"] - before) / (time.perf_counter() - began_s)

    async def open(self, rate: float, seconds: float) -> None:
        """At a rate, whatever becomes of those before."""
        began_s = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for k in range(int(rate * seconds)):
                due_s = began_s + k / rate
                if (wait_s := due_s - time.perf_counter()) > 0:
                    await asyncio.sleep(wait_s)
                group.create_task(self.one(due_s))

    def take(self) -> tuple[list[float], dict[str, int]]:
        """What was measured since the last time."""
        found = self.latency_s, dict(self.statuses)
        self.latency_s, self.statuses = [], Counter()
        return found


def spread(latency_s: list[float]) -> dict[str, float]:
    p50, p99, worst = np.percentile(latency_s, [50, 99, 100]) if latency_s else (0.0, 0.0, 0.0)
    return {"p50_ms": round(1e3 * p50, 2), "p99_ms": round(1e3 * p99, 2), "max_ms": round(1e3 * worst, 2)}


def stolen_s() -> float:
    """Seconds that the host of this virtual machine kept its cores for others, so far; 0 where nobody counts them."""
    try:
        return int(Path("/proc/stat").read_text().split(maxsplit=9)[8]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return 0.0


async def measure(server: Server, rows: int, slices: int, slice_s: float) -> dict[str, Any]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        load = Load(client, server.url, rows)
        await load.closed(2.0)
        load.take()
        rates = [await load.closed(slice_s) for _ in range(3)]
        rate = float(np.median(rates))
        closed_s, statuses = load.take()
        found: dict[str, Any] = {"engine": server.told["engine"], "rows": rows}
        found["saturation"] = {"answers_per_s": round(rate), "rows_per_s": round(rate * rows), **spread(closed_s)}
        found["saturation"] |= {"statuses": statuses}
        pooled: dict[str, list[float]] = {"without": [], "with": []}
        each: dict[str, list[float]] = {"without": [], "with": []}
        stolen = {"without": 0.0, "with": 0.0}
        others: Counter[str] = Counter()
        swaps = 0
        for k in range(2 * slices):
            name = "with" if k % 2 else "without"
            before = server.swapping(name == "with")
            stolen[name] -= stolen_s()
            await load.open(rate / 2, slice_s)
            stolen[name] += stolen_s()
            swaps += server.swapping(False) - before
            latency_s, statuses = load.take()
            pooled[name] += latency_s
            each[name].append(float(np.percentile(latency_s, 99)))
            others.update({status: n for status, n in statuses.items() if status != "200"})
        found["half_load"] = {name: {**spread(pooled[name]), "answers": len(pooled[name])} for name in pooled}
        found["half_load"] |= {
            "swaps": swaps,
            "p99_ratio_pooled": round(float(np.percentile(pooled["with"], 99) / np.percentile(pooled["without"], 99)), 2),
            "p99_ratio_of_medians": round(float(np.median(each["with"]) / np.median(each["without"])), 2),
            "p99_ms_of_slices": {name: [round(1e3 * p99_s, 1) for p99_s in each[name]] for name in each},
            "stolen_s": {name: round(seconds, 2) for name, seconds in stolen.items()},
            "not_answered": dict(others),
        }
        found["overload"] = await overload(client, server.url, slice_s)
        return found


async def overload(client: aiohttp.ClientSession, url: str, slice_s: float) -> dict[str, Any]:
    """Twice of what the engine bears, in requests so large that it is the engine, not this client, that is the limit."""
    load = Load(client, url, OVERLOAD_ROWS)
    await load.closed(slice_s, connections=4)
    rate = await load.closed(slice_s, connections=4)
    load.take()
    await load.open(2 * rate, 2 * slice_s)
    latency_s, statuses = load.take()
    return {"rows": OVERLOAD_ROWS, "saturation_per_s": round(rate), "asked_per_s": round(2 * rate), **spread(latency_s),
            "statuses": statuses}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1, help="of a request")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--slices", type=int, default=8)
    parser.add_argument("--slice-s", type=float, default=2.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        serve(chosen.serve)
        return
    server = Server(chosen.engine)
    try:
        found = asyncio.run(measure(server, chosen.rows, chosen.slices, chosen.slice_s))
    finally:
        server.close()
    text = json.dumps(found, indent=1)
    print(text)
    if chosen.json:
        chosen.json.write_text(text)


if __name__ == "__main__":
    main()
