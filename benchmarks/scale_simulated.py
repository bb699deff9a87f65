"""Thousands of simulated members at one hub that takes the time measured on a real one. For docs/scale.md.

    python benchmarks/scale_simulated.py --nodes 100 1000 5000 --announce-ms 3.0 --find-ms 2.5

The hub answers one request at a time, each after the CPU time that `scale_live.py` measured on a real hub (the simulator
itself charges nothing for a request). Every member publishes one package of statistics, then looks every `--every-s`: it
finds the best offers for labels that it lacks and fetches the first that it has not got, from its holder. Links: members
20 Mbit/s down, 5 up, 20 ms; the hub 1 Gbit/s. Times are virtual seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from kuberml.core.errors import KuberError
from kuberml.core.ids import NodeId
from kuberml.core.rng import rng, seed_of
from kuberml.core.seam import Handler, Transport
from kuberml.exchange.hub import Hub
from kuberml.exchange.node import Node
from kuberml.exchange.place import Place as Standpoint
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.signing import Keys
from kuberml.knowledge.want import Want
from kuberml.vault.catalog import Catalog
from kuberml.worlds.simulated.devices import Device, LinkSpec
from kuberml.worlds.simulated.world import Place, SimulatedWorld

DEVICE = Device(name="any", flops_per_s=10**10)
EDGE = LinkSpec(up_bps=5_000_000, down_bps=20_000_000, latency_ns=20_000_000)
CORE = LinkSpec(up_bps=1_000_000_000, down_bps=1_000_000_000, latency_ns=1_000_000)
HUB = NodeId("hub")
LABELS = 100


class Deaf:
    """Records nothing."""

    def record(self, event: str, **fields: Any) -> None:
        """See the seam."""


class Costly:
    """A hub's transport on which every answer costs the time of one core."""

    def __init__(self, transport: Transport, sleep: Callable[[float], Any], cost_s: dict[str, float]) -> None:
        self._transport, self._sleep, self._cost_s = transport, sleep, cost_s
        self._core = asyncio.Lock()
        self.busy_s, self.waiting, self.waiting_max = 0.0, 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def serve(self, name: str, handler: Handler) -> None:
        """See the seam."""

        async def costly(asker: NodeId, body: bytes) -> bytes:
            self.waiting += 1
            self.waiting_max = max(self.waiting_max, self.waiting)
            async with self._core:
                await self._sleep(self._cost_s.get(name, 0.001))
                self.busy_s += self._cost_s.get(name, 0.001)
                self.waiting -= 1
                return await handler(asker, body)

        self._transport.serve(name, costly)


async def member(
    world: SimulatedWorld, node_id: NodeId, number: int, args: argparse.Namespace, notes: dict[str, list[float]]
) -> None:
    """Publish, then look and fetch."""
    draws = rng(args.seed, "member", number)
    keys = Keys(seed_of(args.seed, "keys", number).to_bytes(32, "little"))
    clock = world.clock(node_id)
    node = Node(Standpoint(clock=clock, transport=world.transport(node_id), compute=world.compute(node_id),
                           store=world.store(node_id), recorder=Deaf(), role="peer", task="scale", keys=keys,
                           seed=args.seed, hub=HUB))  # fmt: skip
    await clock.sleep(float(draws.random()) * args.every_s)
    label = str(number % LABELS)
    package = Weights({"w": np.full(args.package_kb * 250, number, np.float32)}, {label: 10})
    await node.publish(package, slot="model", version=0)
    have: set[str] = set()
    for _ in range(args.looks):
        await clock.sleep(args.every_s)
        wanted = {str(one): 1_000_000 for one in draws.choice(LABELS, 5, replace=False)}
        at_ns = clock.now_ns()
        offers = await node.find(Want(task="scale", labels_ppm=wanted, limit=4))
        notes["find_s"].append((clock.now_ns() - at_ns) / 1e9)
        if not offers:
            notes["empty"].append(1.0)
        for offer in offers[:1]:
            if offer.signed.digest not in have:
                at_ns = clock.now_ns()
                try:
                    await node.fetch(offer)
                except KuberError:
                    notes["failed"].append(1.0)
                    continue
                have.add(offer.signed.digest)
                notes["fetch_s"].append((clock.now_ns() - at_ns) / 1e9)


def town(nodes: int, args: argparse.Namespace) -> dict[str, Any]:
    """One run."""
    began_s = time.perf_counter()
    ids = [NodeId(f"n{number:05}") for number in range(nodes)]
    world = SimulatedWorld(
        [Place(HUB, "hub", DEVICE, CORE), *(Place(node, "peer", DEVICE, EDGE) for node in ids)], seed=args.seed
    )
    notes: dict[str, list[float]] = {"find_s": [], "fetch_s": [], "failed": [], "empty": []}
    costs = {"announce": args.announce_ms / 1000, "find": args.find_ms / 1000}
    desk = Costly(world.transport(HUB), world.clock(HUB).sleep, costs)

    async def hub() -> None:
        Hub(desk, world.clock(HUB), Catalog(":memory:"), Deaf())  # type: ignore[arg-type]

    mains = {HUB: hub} | {node: partial(member, world, node, number, args, notes) for number, node in enumerate(ids)}
    outcome = world.run(mains, wait_for=["peer"])
    virtual_s = outcome.virtual_time_ns / 1e9
    sent = sum(traffic.sent_control + traffic.sent_blob for traffic in outcome.traffic.values())
    return {
        "nodes": nodes, "virtual_s": round(virtual_s, 1), "wall_s": round(time.perf_counter() - began_s, 1),
        "find_s_p50": percentile(notes["find_s"], 50), "find_s_p99": percentile(notes["find_s"], 99),
        "fetch_s_p50": percentile(notes["fetch_s"], 50), "fetch_s_p99": percentile(notes["fetch_s"], 99),
        "finds": len(notes["find_s"]), "finds_empty": len(notes["empty"]),
        "fetched": len(notes["fetch_s"]), "fetch_failed": len(notes["failed"]),
        "hub_core_busy": round(desk.busy_s / virtual_s, 3), "hub_queue_max": desk.waiting_max,
        "bytes_per_node": sent // nodes, "hub_sent_mb": round(outcome.traffic[HUB].sent_control / 1e6, 1),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }  # fmt: skip


def percentile(every: list[float], q: float) -> float | None:
    """None: there were none."""
    return round(float(np.percentile(every, q)), 3) if every else None


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[100, 1000, 5000])
    parser.add_argument("--announce-ms", type=float, required=True)
    parser.add_argument("--find-ms", type=float, required=True)
    parser.add_argument("--every-s", type=float, default=60.0)
    parser.add_argument("--looks", type=int, default=3)
    parser.add_argument("--package-kb", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for nodes in args.nodes:
        print(json.dumps(town(nodes, args)), flush=True)


if __name__ == "__main__":
    main()
