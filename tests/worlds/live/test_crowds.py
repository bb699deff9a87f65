"""A thousand peers at once, and peers that are slow on purpose, against a hub in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from kuberml.worlds.live.world import LiveWorld
from tests.cli.live import ROOT, hub
from tests.worlds.live.test_world import PATIENCE_S, WANT, node, weights
from tests.worlds.live.town import member

PEERS, PROCESSES = 1000, 4
SLOW = 300


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


async def round_trips(world: LiveWorld, until: asyncio.Event) -> list[float]:
    """Seconds of small requests to the hub, one after the other, until told."""
    waits_s = []
    while not until.is_set():
        began_s = time.monotonic()
        await world.transport.ask(world.hub, "door", b"", timeout_s=30)
        waits_s.append(time.monotonic() - began_s)
        await asyncio.sleep(0.01)
    return waits_s


def test_a_thousand_peers_connect_at_once_and_all_are_welcomed(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}

    def crowd(address: str, first: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.worlds.live.crowd", address, str(first), str(PEERS // PROCESSES)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    async def main(running: dict[str, str], stack: contextlib.ExitStack) -> tuple[list[dict], list[float], int]:
        async with member(running["address"], "honest", tmp_path) as world:
            await world.enter(PATIENCE_S)
            crowds = [stack.enter_context(crowd(running["address"], 1 + at * PEERS)) for at in range(PROCESSES)]
            for one in crowds:
                assert await asyncio.to_thread(one.stdout.readline) == "ready\n"
            over = asyncio.Event()
            asking = asyncio.create_task(round_trips(world, over))
            for one in crowds:
                one.stdin.write("go\n")
                one.stdin.flush()
            told = [json.loads(await asyncio.to_thread(one.stdout.readline)) for one in crowds]
            over.set()
            waits_s = await asking
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    while len(world.transport.alive("peer")) < PEERS:  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
            for one in crowds:
                one.stdin.close()
            return told, waits_s, len(world.transport.alive("peer"))

    with hub(tmp_path / "hub", "--quiet") as running, contextlib.ExitStack() as stack:
        told, honest_s, present = asyncio.run(main(running, stack))
        resident = rss_bytes(running["pid"])
    welcomed_s = sorted(wait_s for one in told for wait_s in one["waits_s"])
    print(
        f"1,000 peers: welcomed within {welcomed_s[-1]:.1f} s (median {welcomed_s[500]:.1f} s); an honest member's requests"
        f" meanwhile: median {sorted(honest_s)[len(honest_s) // 2] * 1e3:.0f} ms, longest {max(honest_s) * 1e3:.0f} ms; hub"
        f" {resident / 2**20:.0f} MiB"
    )
    assert sum(one["said"].get("ok", 0) for one in told) == PEERS, [one["said"] for one in told]
    assert present == PEERS
    assert resident < 512 << 20


def test_slow_peers_keep_nobody_out_and_are_closed(tmp_path: Path) -> None:
    def slow(where: str, first: bytes) -> list[socket.socket]:
        host, _, port = where.rpartition(":")
        lines = [socket.create_connection((host, int(port))) for _ in range(SLOW)]
        for line in lines:
            line.sendall(first)
        return lines

    def closed(line: socket.socket) -> bool:
        """Say one byte more, and look."""
        line.setblocking(False)
        try:
            line.send(b"x")
            return line.recv(1000) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    async def honest(address: str, name: str) -> float:
        async with member(address, name, tmp_path) as one, member(address, f"{name}-other", tmp_path) as other:
            began_s = time.monotonic()
            await one.enter(PATIENCE_S)
            await other.enter(PATIENCE_S)
            published = await node(one).publish(weights(), slot="model", version=0)
            found = await node(other).find(WANT)
            assert published.signed.digest in [offer.signed.digest for offer in found]
            await node(other).fetch(found[0])
            return time.monotonic() - began_s

    with hub(tmp_path / "hub", "--quiet") as running:
        alone_s = asyncio.run(honest(running["address"], "before"))
        began_s = time.monotonic()
        lines = slow(running["http"].removeprefix("http://"), b"GET /v1/blobs/")
        lines += slow(running["address"], b"\x00")
        among_s = asyncio.run(honest(running["address"], "after"))
        while not all(ended := [closed(line) for line in lines]) and time.monotonic() - began_s < 25:
            time.sleep(0.5)
        ended_s = time.monotonic() - began_s
        for line in lines:
            line.close()
        waits = f"alone {alone_s:.2f} s, among {len(lines)} slow peers {among_s:.2f} s"
        print(f"join, publish, find and fetch: {waits}; all slow ones closed after {ended_s:.1f} s")
    assert all(ended), f"{ended.count(False)} of {len(lines)} slow connections are still open after {ended_s:.0f} s"
    assert among_s < alone_s + 5
