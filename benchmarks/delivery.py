"""Delivery beside raw sockets, whole files and gRPC: `python benchmarks/delivery.py [--quick] [--json FILE]` (about 6 minutes).

`--parts sizes many line requests`, `--sizes 1 100 1000`, `--who tcp "ours, HTTP, disk"` and `--rounds 5` run a slice of it.

Rounds are interleaved: every contestant moves the same blob once in each round, the order is the table's, the first round warms
up and is not counted; the table gives medians, and ratios to raw TCP (or raw TLS) of the same rounds. One client process, the
holders in another, the hub in a third. Look at ratios: on a machine that does something else as well, speeds are its speeds.

Whoever receives into memory has it ready: all do, so that the cost of fresh memory is not what is compared. The row "the bound"
is raw TCP with the same hashes and nothing else: what verification costs at least, on this machine, in this language.

Ours is the whole path with verification on: `exchange.delivery` over the live world's transport from a vault in a folder, every
piece hashed while it arrives, then the whole. Rivals verify nothing, but the hub-like download hashes the file at its end.
gRPC needs `pip install grpcio`; without it its rows are missing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from delivery_moves import MIB, Contest, Wire, ours, over_grpc, plain_write, raw, raw_hashed, rounds, rows, show, whole_file
from delivery_peers import certificates

from kuberml.core.ids import NodeId
from kuberml.knowledge.card import BlobRef
from kuberml.knowledge.pieces import refer
from kuberml.knowledge.signing import Keys
from kuberml.vault.folder import FolderStore
from kuberml.worlds.live.blobs.client import BlobReader
from kuberml.worlds.live.world import LiveWorld

TARGETS = {
    "ours, HTTP, memory": ("tcp", 0.60),
    "ours, mTLS, memory": ("tls", 0.60),
    "ours, router, memory": ("tcp", 0.25),
    "ours, HTTP, disk": ("plain write, fsync", 0.90),
}


async def latency(world: LiveWorld, seconds: float) -> list[float]:
    times = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        await world.transport.ask(NodeId("holder"), "echo", b"x" * 200, timeout_s=10)
        times.append(1e3 * (time.perf_counter() - began))
        await asyncio.sleep(0.002)
    return times


def bare_latency(port: int, seconds: float) -> list[float]:
    """The floor: the same bytes over a socket that is open, from a thread, to a process that does nothing else."""
    times = []
    until = time.perf_counter() + seconds
    with socket.create_connection(("127.0.0.1", port)) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while time.perf_counter() < until:
            began, got = time.perf_counter(), 0
            wire.sendall(b"x" * 200)
            while got < 200:
                got += len(wire.recv(200))
            times.append(1e3 * (time.perf_counter() - began))
            time.sleep(0.002)
    return times


async def requests(world: LiveWorld, echo_port: int, bulk: Contest, ref: BlobRef, seconds: float) -> list[dict[str, Any]]:
    found = []
    for name, move in {"nothing else": None, **bulk}.items():

        async def again(move: Any = move) -> None:
            while True:
                await move(ref)

        task = asyncio.create_task(again()) if move else None
        measured = {"request ms": await latency(world, seconds)}
        measured["bare socket"] = await asyncio.to_thread(bare_latency, echo_port, seconds)
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for what, times in measured.items():
            p50, p99 = statistics.quantiles(times, n=100)[49::49]
            found.append({"what": what, "who": f"beside {name}", "p50": p50, "p99": p99, "count": len(times)})
    return found


@contextlib.contextmanager
def peers(folder: Path) -> Iterator[dict[str, Any]]:
    script = Path(__file__).with_name("delivery_peers.py")
    started, where = [], dict[str, Any]()
    try:
        for role in ("echo", "hub", "holder", "rpc", "line"):
            if role == "rpc" and not _has_grpc():
                continue
            process = subprocess.Popen(
                [sys.executable, str(script), role, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            started.append(process)
            where["pids"] = [*where.get("pids", []), process.pid]
            where[role] = json.loads(process.stdout.readline())  # type: ignore[union-attr]
        yield where
    finally:
        for process in reversed(started):
            process.communicate()


def _has_grpc() -> bool:
    try:
        import grpc  # noqa: F401
    except ImportError:
        return False
    return True


async def measure(folder: Path, given: argparse.Namespace) -> list[dict[str, Any]]:
    contents = {size: os.urandom(size * MIB) for size in given.sizes}
    with FolderStore(folder / "vault") as vault:
        for content in contents.values():
            vault.put(content)
        refs = {size: refer(content) for size, content in contents.items()}
        small = [os.urandom(10 * MIB) for _ in range(64 if "many" in given.parts else 0)]
        for content in small:
            vault.put(content)
        many = [refer(content) for content in small]
        del small
        await asyncio.to_thread(os.sync)
        with peers(folder) as at:
            return await _measured(folder, at, contents, refs, many, given)


async def _measured(
    folder: Path,
    at: dict[str, Any],
    contents: dict[int, bytes],
    refs: dict[int, BlobRef],
    many: list[BlobRef],
    given: argparse.Namespace,
) -> list[dict[str, Any]]:
    count, parts = given.rounds, given.parts

    def chosen(contest: Contest) -> Contest:
        return {name: move for name, move in contest.items() if not given.who or name in given.who}

    tls = certificates(folder, "client")
    reader = BlobReader(ssl=tls.client_context())
    context = tls.client_context()
    secure, far = (
        Wire(url, reader) for url in (f"https://127.0.0.1:{at['holder']['https']}", f"http://127.0.0.1:{at['line']['http']}")
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(reader.close)
        world = await stack.enter_async_context(
            LiveWorld.open(at["hub"]["address"], node="taker", role="peer", keys=Keys.generate(), vault=folder / "mine")
        )
        await world.enter(10)
        taken = stack.enter_context(FolderStore(folder / "taken"))
        own, pids, found = world.transport, at["pids"], []
        memory: Contest = {
            "tcp": lambda ref: asyncio.to_thread(raw, at["holder"]["tcp"], ref),
            "tcp, BLAKE3 twice: the bound": lambda ref: asyncio.to_thread(raw_hashed, at["holder"]["tcp"], ref),
            "tls": lambda ref: asyncio.to_thread(raw, at["holder"]["tls"], ref, context),
            "ours, HTTP, memory": lambda ref: ours(own, "holder", ref),
            "ours, mTLS, memory": lambda ref: ours(secure, "holder", ref),
            "ours, router, memory": lambda ref: ours(own, "tunnel", ref),
        }
        if "rpc" in at:
            import grpc

            options = [("grpc.max_receive_message_length", -1)]
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{at['rpc']['port']}", options))
            memory["gRPC stream"] = lambda ref: over_grpc(channel, ref)
        url = f"http://127.0.0.1:{at['holder']['http']}"
        for size, ref in refs.items() if "sizes" in parts else ():
            disk: Contest = {
                "whole file, then hash": lambda ref: asyncio.to_thread(whole_file, url, ref, folder),
                "plain write, fsync": lambda ref, size=size: asyncio.to_thread(plain_write, contents[size], folder),
                "ours, HTTP, disk": lambda ref: ours(own, "holder", ref, taken),
            }
            found += show(rows(f"{size} MiB", await rounds(chosen(memory | disk), ref, count, pids), size * MIB))
        if "many" in parts:
            took = await rounds(chosen(memory), many[0], count, pids, many)
            found += show(rows("64 x 10 MiB", took, 640 * MIB))
        largest = max(refs)
        if "line" in parts:
            distant: Contest = {
                "tcp (the line's own ceiling)": lambda ref: asyncio.to_thread(raw, at["line"]["tcp"], ref),
                "ours, HTTP, memory": lambda ref: ours(far, "holder", ref),
            }
            found += show(rows(f"{largest} MiB, 50 ms", await rounds(distant, refs[largest], count, pids), largest * MIB))
        if "requests" in parts:
            bulk = {name: move for name, move in chosen(memory).items() if "ours" in name or name == "tcp"}
            found += show(await requests(world, at["echo"]["port"], bulk, refs[largest], 4))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="1 and 100 MiB, three rounds")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--parts", nargs="+", default=["sizes", "many", "line", "requests"], metavar="PART")
    parser.add_argument("--sizes", nargs="+", type=int, metavar="MIB")
    parser.add_argument("--who", nargs="+", metavar="NAME", help="of the rows; default: all")
    parser.add_argument("--rounds", type=int)
    given = parser.parse_args()
    given.sizes = given.sizes or ([1, 100] if given.quick else [1, 100, 1000])
    given.rounds = given.rounds or (3 if given.quick else 5)
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(Path(folder), given))
    for who, (base, least) in TARGETS.items():
        for row in found:
            ratio = row.get(f"x {base}")
            if ratio is not None and row["who"] == who and row["what"].endswith("00 MiB"):
                print(f"{row['what']}: {who}: {ratio:.2f} of {base}, {'held' if ratio >= least else 'NOT HELD'}: {least:.2f}")
    print(f"peak RSS of the client: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB (it keeps the blobs, too)")
    if given.json:
        given.json.write_text(json.dumps({"rows": found, "load": os.getloadavg(), "cores": os.cpu_count()}, indent=1))


if __name__ == "__main__":
    main()
