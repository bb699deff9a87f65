"""Many real processes at one hub, with a trivial model: what joining, finding and fetching cost. For docs/scale.md.

    python benchmarks/scale_live.py --processes 60        # prints one JSON object
    python benchmarks/scale_live.py --sweep 10 20 40 60   # one line for each

Every process is a member of its own: it joins, publishes one small package of weights, and then, for `--seconds`, again and
again finds what others offer and fetches what it has not got. Times are seconds of the wall clock, sizes MiB (RSS).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from kuberml.core.errors import KuberError
from kuberml.exchange.node import Node
from kuberml.exchange.place import Place
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.signing import Keys
from kuberml.knowledge.want import Want
from kuberml.worlds.live.hub.process import HubProcess
from kuberml.worlds.live.world import LiveWorld

WANT = Want(task="scale", limit=8)


async def member(address: str, number: int, folder: Path, seconds: float) -> dict[str, Any]:
    """One member's life."""
    keys = Keys(number.to_bytes(32, "big"))
    began_s = time.monotonic()
    async with LiveWorld.open(address, node=f"n{number:04}", role="peer", keys=keys, vault=folder / f"n{number:04}") as world:
        await world.enter(120.0)
        joined_s = time.monotonic() - began_s
        place = Place(
            clock=world.clock, transport=world.transport, compute=world.compute, store=world.store,
            recorder=world.recorder(), role="peer", task="scale", keys=keys, seed=number, hub=world.hub,
        )  # fmt: skip
        node = Node(place)
        await node.publish(Weights({"w": np.full(64, number, np.float32)}, {str(number % 10): 10}), slot="model", version=0)
        find_ms, fetch_ms, have, failed = [], [], set(), 0
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            at_s = time.monotonic()
            offers = await node.find(WANT)
            find_ms.append(1000 * (time.monotonic() - at_s))
            for offer in offers:
                if offer.signed.digest not in have:
                    at_s = time.monotonic()
                    try:
                        await node.fetch(offer)
                    except KuberError:
                        failed += 1
                        continue
                    have.add(offer.signed.digest)
                    fetch_ms.append(1000 * (time.monotonic() - at_s))
            await asyncio.sleep(0.5 + (number % 10) / 20)
        return {"joined_s": joined_s, "find_ms": find_ms, "fetch_ms": fetch_ms, "failed": failed, "rss_mib": rss_mib()}


async def town(processes: int, seconds: float) -> dict[str, Any]:
    """A hub in this process, members in theirs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with HubProcess.open(folder / "hub", listen="127.0.0.1:0", http="127.0.0.1:0") as hub:
            requests: list[float] = []
            hub.transport.answering.watch = lambda name, outcome, took_s: requests.append(took_s)
            began_s, cpu_s = time.monotonic(), time.process_time()
            children = [started(number, hub.address, name, seconds) for number in range(processes)]
            texts = await asyncio.gather(*(asyncio.to_thread(child.communicate) for child in children))
            busy_s, took_s = time.process_time() - cpu_s, time.monotonic() - began_s
            lives = [json.loads(text) for text, _ in texts if text]
            return {
                "processes": processes, "alive": len(lives), "took_s": round(took_s, 1),
                "joined_s_max": round(max(life["joined_s"] for life in lives), 2),
                "find_ms_p50": percentile(lives, "find_ms", 50), "find_ms_p99": percentile(lives, "find_ms", 99),
                "fetch_ms_p50": percentile(lives, "fetch_ms", 50), "fetch_ms_p99": percentile(lives, "fetch_ms", 99),
                "fetched": sum(len(life["fetch_ms"]) for life in lives), "failed": sum(life["failed"] for life in lives),
                "hub_requests": len(requests), "hub_cpu_ms_per_request": round(1000 * busy_s / max(1, len(requests)), 3),
                "hub_handler_ms_p50": round(1000 * statistics.median(requests), 3),
                "hub_rss_mib": round(rss_mib()), "member_rss_mib": round(statistics.median(life["rss_mib"] for life in lives)),
                "load": os.getloadavg()[0],
            }  # fmt: skip


def started(number: int, address: str, folder: str, seconds: float) -> subprocess.Popen[str]:
    """A member as a process of its own."""
    words = ["--member", str(number), "--at", address, "--folder", folder, "--seconds", str(seconds)]
    return subprocess.Popen([sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True)


def percentile(lives: list[dict[str, Any]], name: str, q: float) -> float:
    """Over all members."""
    every = [one for life in lives for one in life[name]]
    return round(float(np.percentile(every, q)), 2) if every else float("nan")


def rss_mib() -> float:
    """Resident now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=60)
    parser.add_argument("--sweep", type=int, nargs="*", default=[])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--member", type=int)
    parser.add_argument("--at")
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    if args.member is not None:
        print(json.dumps(asyncio.run(member(args.at, args.member, args.folder, args.seconds))))
        return
    for processes in args.sweep or [args.processes]:
        print(json.dumps(asyncio.run(town(processes, args.seconds))), flush=True)


if __name__ == "__main__":
    main()
