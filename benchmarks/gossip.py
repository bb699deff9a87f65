"""Gossip among 1,000 simulated nodes: signed messages, one hour of virtual time. Goal: < 60 s of wall time and < 2 GiB.

Random regular graph of degree 6, period 10 s. In every period every node signs (Ed25519) its fresh state, a small message,
and pushes it to `--fanout` of its neighbours, drawn from its own stream; the receiver verifies the signature and merges.

    python benchmarks/gossip.py                   # one neighbour a period, as in the goal: 360,000 messages
    python benchmarks/gossip.py --fanout 6        # all neighbours; a message is verified once in this process
    python benchmarks/gossip.py --ask             # pushed by a request with a receipt instead of an announcement
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import time
from collections.abc import Callable, Coroutine
from functools import partial

import msgspec

from kuberml.core import canonical
from kuberml.core.ids import NodeId
from kuberml.core.rng import rng, seed_of
from kuberml.knowledge.signing import Keys, check_signature
from kuberml.worlds.simulated.devices import Device, LinkSpec
from kuberml.worlds.simulated.graphs import Graph, graph
from kuberml.worlds.simulated.world import Outcome, Place, SimulatedWorld

DOMAIN = b"kuberml.benchmark.gossip/1\0"
DEVICE = Device(name="phone", flops_per_s=10**10)
_decode = msgspec.msgpack.Decoder(tuple[str, int, int]).decode
LINK = LinkSpec(up_bps=10_000_000, down_bps=40_000_000, latency_ns=20_000_000)


class Gossiper:
    """One node: a count for every neighbour whose state it has merged."""

    def __init__(self, world: SimulatedWorld, number: int, neighbours: list[NodeId], args: argparse.Namespace) -> None:
        self.node = _name(number)
        self.merged: dict[str, tuple[int, int]] = {}
        self.received = 0
        self._neighbours, self._args = neighbours, args
        self._clock, self._door = world.clock(self.node), world.transport(self.node)
        self._keys = Keys(seed_of(args.seed, "keys", number).to_bytes(32, "little"))
        draws = rng(args.seed, "gossip", number)
        self._wait_s = float(draws.random()) * args.period_s
        self._rounds = int(args.hours * 3600 / args.period_s)
        self._firsts = draws.integers(len(neighbours), size=self._rounds).tolist()
        self._value = number

    async def run(self) -> None:
        """Push once a period; merge what comes."""
        async with asyncio.TaskGroup() as group:
            if self._args.ask:
                self._door.serve("push", self._on_push)
            else:
                group.create_task(self._hear())
            await self._clock.sleep(self._wait_s)
            for round_ in range(self._rounds):
                await self._push(round_)
                await self._clock.sleep(self._args.period_s)

    async def _push(self, round_: int) -> None:
        state = canonical.encode([self._keys.public, round_, self._value])
        message = self._keys.sign(DOMAIN, state) + state
        first = self._firsts[round_]
        for offset in range(self._args.fanout):
            neighbour = self._neighbours[(first + offset) % len(self._neighbours)]
            if self._args.ask:
                await self._door.ask(neighbour, "push", message, timeout_s=5)
            else:
                await self._door.announce(neighbour, message)

    async def _hear(self) -> None:
        async for _, message in self._door.subscribe(self.node):
            self._merge(message)

    async def _on_push(self, asker: NodeId, message: bytes) -> bytes:
        self._merge(message)
        return b""

    def _merge(self, message: bytes) -> None:
        signature, state = message[:64], message[64:]
        author, round_, value = _decode(state)
        check_signature(author, DOMAIN, state, signature)  # of exactly these bytes, so they need no other check
        self.received += 1
        if round_ >= self.merged.get(author, (-1, 0))[0]:
            self.merged[author] = (round_, value)
            self._value += value & 1


def simulate(args: argparse.Namespace) -> tuple[Outcome, int]:
    """Run it; also the number of messages that were received, verified and merged."""
    peers: Graph = graph("random-regular", args.nodes, rng(args.seed, "graph"), degree=args.degree)
    places = [Place(node=_name(number), role="peer", device=DEVICE, link=LINK) for number in range(args.nodes)]
    world = SimulatedWorld(places, seed=args.seed)
    gossipers = [Gossiper(world, number, [_name(peer) for peer in peers[number]], args) for number in range(args.nodes)]
    mains: dict[NodeId, Callable[[], Coroutine[object, object, None]]] = {each.node: partial(each.run) for each in gossipers}
    outcome = world.run(mains, until_s=args.hours * 3600)
    return outcome, sum(each.received for each in gossipers)


def _name(number: int) -> NodeId:
    return NodeId(f"n{number:04d}")


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--degree", type=int, default=6)
    parser.add_argument("--fanout", type=int, default=1)
    parser.add_argument("--period-s", type=float, default=10.0)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ask", action="store_true")
    args = parser.parse_args()
    began, began_cpu = time.perf_counter(), time.process_time()
    outcome, received = simulate(args)
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    figures = {
        "messages": received,
        "wall_s": round(wall_s, 1),
        "cpu_s": round(cpu_s, 1),
        "timer_events": outcome.events,
        "messages_per_s": round(received / wall_s),
        "timer_events_per_s": round(outcome.events / wall_s),
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "megabytes_sent": round(sum(traffic.sent_control for traffic in outcome.traffic.values()) / 1e6, 1),
        "virtual_time_s": outcome.virtual_time_ns / 1e9,
        "trace_hash": outcome.trace_hash,
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
