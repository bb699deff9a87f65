"""Delivery beside raw sockets, whole files and gRPC: `python benchmarks/delivery.py [--quick] [--json FILE]` (about 6 minutes).

Rounds are interleaved: every contestant moves the same blob once in each round, the order is the table's, the first round warms
up and is not counted; the table gives medians, and ratios to raw TCP (or raw TLS) of the same rounds. One client process, the
holders in another, the hub in a third. Look at ratios: on a machine that does something else as well, speeds are its speeds.

Ours is the whole path with verification on: `exchange.delivery` over the live world's transport from a vault in a folder, every
piece hashed while it arrives, then the whole. Rivals verify nothing, but the hub-like download hashes the file at its end.
gRPC needs `pip install grpcio`; without it its rows are missing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import resource
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from blake3 import blake3
from delivery_peers import certificates

from kuberml.core.ids import NodeId
from kuberml.exchange.delivery import Delivery
from kuberml.knowledge.card import BlobRef
from kuberml.knowledge.pieces import refer
from kuberml.knowledge.signing import Keys
from kuberml.vault.folder import FolderStore
from kuberml.worlds.live.blobs.client import BlobReader
from kuberml.worlds.live.transport import LiveTransport
from kuberml.worlds.live.world import LiveWorld

MIB = 1 << 20
TARGETS = {
    "ours, HTTP, memory": ("tcp", 0.60),
    "ours, mTLS, memory": ("tls", 0.60),
    "ours, router, memory": ("tcp", 0.25),
    "ours, HTTP, disk": ("plain write, fsync", 0.90),
}
Contest = dict[str, Callable[[BlobRef], Awaitable[None]]]


class Memory:
    """A store that takes deliveries into memory, and checks the whole as the vault does."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytearray] = {}

    def size_bytes(self, digest: str) -> None:
        return None

    def find_pieces(self, hashes: object) -> dict[bytes, Any]:
        return {}

    def part(self, digest: str, size_bytes: int) -> MemoryPart:
        return MemoryPart(self.blobs, digest, size_bytes)


class MemoryPart:
    """One blob under way in memory: written in place, hashed at the end in a thread."""

    is_new = True

    def __init__(self, blobs: dict[str, bytearray], digest: str, size_bytes: int) -> None:
        self._blobs, self._digest, self._content = blobs, digest, bytearray(size_bytes)

    def write(self, start: int, content: memoryview) -> None:
        self._content[start : start + len(content)] = content

    def finish(self) -> None:
        assert blake3(self._content).hexdigest() == self._digest
        self._blobs[self._digest] = self._content

    def close(self) -> None:
        pass

    async def beside(self, work: Callable[[], Any]) -> Any:
        return await asyncio.to_thread(work)


class Wire:
    """A transport that reads from one address, as the live one does once it knows where a holder is."""

    reading = LiveTransport.reading

    def __init__(self, url: str, reader: BlobReader) -> None:
        self._url, self._reader = url, reader

    async def read(self, holder: NodeId, digest: Any, start: int, stop: int, *, timeout_s: float) -> bytes:
        return await self._reader.read(self._url, digest, start, stop, stall_s=timeout_s)


async def ours(transport: Any, holder: str, ref: BlobRef, folder: Path | None = None) -> None:
    """Deliver into memory, or into a vault in a new folder."""
    if folder is None:
        memory = Memory()
        await Delivery(transport, memory).deliver(SimpleNamespace(blobs=(ref,)), [NodeId(holder)])
        assert len(memory.blobs[ref.digest]) == ref.size_bytes
    else:
        with FolderStore(folder / "taken") as vault:
            await Delivery(transport, vault).deliver(SimpleNamespace(blobs=(ref,)), [NodeId(holder)])
            assert vault.size_bytes(ref.digest) == ref.size_bytes
        shutil.rmtree(folder / "taken")


def raw(port: int, ref: BlobRef, context: ssl.SSLContext | None = None) -> None:
    with socket.create_connection(("127.0.0.1", port)) as plain:
        wire = context.wrap_socket(plain, server_hostname="127.0.0.1") if context else plain
        wire.sendall(ref.digest.encode())
        data, got = bytearray(ref.size_bytes), 0
        with memoryview(data) as view:
            while got < ref.size_bytes:
                got += wire.recv_into(view[got:])
        wire.close()


def whole_file(url: str, ref: BlobRef, folder: Path) -> None:
    """As model hubs' clients do: one GET into a temporary file, its hash at the end, then its name."""
    with urllib.request.urlopen(f"{url}/v1/blobs/{ref.digest}") as answer, (folder / "part").open("wb") as file:
        shutil.copyfileobj(answer, file, MIB)
    with (folder / "part").open("rb") as file:
        hashlib.file_digest(file, "sha256")
    os.rename(folder / "part", folder / "whole")


def plain_write(content: bytes, folder: Path) -> None:
    """What the disk can do: the bytes are in memory already; fsync at the end, as the vault does."""
    with (folder / "plain").open("wb", buffering=0) as file, memoryview(content) as view:
        for at in range(0, len(content), 8 * MIB):
            file.write(view[at : at + 8 * MIB])
        os.fsync(file.fileno())
    (folder / "plain").unlink()


async def over_grpc(channel: Any, ref: BlobRef) -> None:
    data, got = bytearray(ref.size_bytes), 0
    async for message in channel.unary_stream("/Blobs/Read")(ref.digest.encode()):
        data[got : got + len(message)] = message
        got += len(message)
    assert got == ref.size_bytes


def cpu_s(others: list[int]) -> float:
    """Processor time of this process and of the peers so far: what a busy machine cannot change much."""
    spent = time.process_time()
    for pid in others:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        spent += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return spent


async def rounds(
    contest: Contest, ref: BlobRef, count: int, pids: list[int], many: list[BlobRef] | None = None
) -> dict[str, list[tuple[float, float]]]:
    """Wall and processor seconds of each contestant in each counted round; `many` blobs at once instead of one."""
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in contest}
    for number in range(count + 1):
        for name, move in contest.items():
            began, cpu = time.perf_counter(), cpu_s(pids)
            async with asyncio.timeout(300):
                await asyncio.gather(*(move(one) for one in many or [ref]))
            if number:
                took[name].append((time.perf_counter() - began, cpu_s(pids) - cpu))
    return took


def rows(title: str, took: dict[str, list[tuple[float, float]]], size_bytes: int) -> list[dict[str, Any]]:
    found = []
    for name, times in took.items():
        row: dict[str, Any] = {
            "what": title,
            "who": name,
            "MB/s": size_bytes / 1e6 / statistics.median(wall for wall, _ in times),
            "cpu s/GB": statistics.median(cpu for _, cpu in times) / size_bytes * 1e9,
        }
        for base in ("tcp", "tls", "plain write, fsync"):
            if base in took:  # paired by round: what slows a round down slows both
                row[f"x {base}"] = statistics.median(b[0] / t[0] for b, t in zip(took[base], times, strict=True))
        found.append(row)
    return found


async def latency(world: LiveWorld, seconds: float) -> list[float]:
    times = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        await world.transport.ask(NodeId("holder"), "echo", b"x" * 200, timeout_s=10)
        times.append(1e3 * (time.perf_counter() - began))
        await asyncio.sleep(0.002)
    return times


async def requests(world: LiveWorld, bulk: Contest, ref: BlobRef, seconds: float) -> list[dict[str, Any]]:
    found = []
    for name, move in {"nothing else": None, **bulk}.items():

        async def again(move: Any = move) -> None:
            while True:
                await move(ref)

        task = asyncio.create_task(again()) if move else None
        times = sorted(await latency(world, seconds))
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        found.append({"what": "request ms", "who": f"beside {name}", "p50": times[len(times) // 2],
                      "p99": times[int(0.99 * len(times))], "count": len(times)})  # fmt: skip
    return found


@contextlib.contextmanager
def peers(folder: Path) -> Iterator[dict[str, Any]]:
    script = Path(__file__).with_name("delivery_peers.py")
    started, where = [], dict[str, Any]()
    try:
        for role in ("hub", "holder", "rpc", "line"):
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


async def measure(folder: Path, quick: bool) -> list[dict[str, Any]]:
    sizes = (1, 100) if quick else (1, 100, 1000)
    contents = {size: os.urandom(size * MIB) for size in sizes}
    with FolderStore(folder / "vault") as vault:
        for content in contents.values():
            vault.put(content)
        refs = {size: refer(content) for size, content in contents.items()}
        small = [os.urandom(10 * MIB) for _ in range(64)]
        for content in small:
            vault.put(content)
        many = [refer(content) for content in small]
        del small
        await asyncio.to_thread(os.sync)
        with peers(folder) as at:
            return await _measured(folder, at, contents, refs, many, 3 if quick else 5)


async def _measured(
    folder: Path, at: dict[str, Any], contents: dict[int, bytes], refs: dict[int, BlobRef], many: list[BlobRef], count: int
) -> list[dict[str, Any]]:
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
        own, pids, found = world.transport, at["pids"], []
        memory: Contest = {
            "tcp": lambda ref: asyncio.to_thread(raw, at["holder"]["tcp"], ref),
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
        for size, ref in refs.items():
            disk: Contest = {
                "whole file, then hash": lambda ref: asyncio.to_thread(whole_file, url, ref, folder),
                "plain write, fsync": lambda ref, size=size: asyncio.to_thread(plain_write, contents[size], folder),
                "ours, HTTP, disk": lambda ref: ours(own, "holder", ref, folder),
            }
            found += rows(f"{size} MiB", await rounds(memory | disk, ref, count, pids), size * MIB)
            show(found[-len(memory | disk) :])
        took = await rounds(memory, many[0], count, pids, many)
        found += rows("64 x 10 MiB", took, 640 * MIB)
        show(found[-len(memory) :])
        distant: Contest = {
            "tcp (the line's own ceiling)": lambda ref: asyncio.to_thread(raw, at["line"]["tcp"], ref),
            "ours, HTTP, memory": lambda ref: ours(far, "holder", ref),
        }
        largest = max(refs)
        found += rows(f"{largest} MiB, 50 ms", await rounds(distant, refs[largest], count, pids), largest * MIB)
        show(found[-2:])
        found += await requests(world, {name: memory[name] for name in memory if "ours" in name or name == "tcp"}, refs[100], 4)
        show(found[-5:])
    return found


def show(found: list[dict[str, Any]]) -> None:
    for row in found:
        rest = "  ".join(f"{name} {value:8.2f}" for name, value in row.items() if isinstance(value, float))
        print(f"{row['what']:16} {row['who']:32} {rest}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="1 and 100 MiB, three rounds")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(Path(folder), given.quick))
    for who, (base, least) in TARGETS.items():
        for row in found:
            if row["who"] == who and row["what"].endswith("00 MiB"):
                ratio = row.get(f"x {base}", 0.0)
                print(f"{row['what']}: {who}: {ratio:.2f} of {base}, {'held' if ratio >= least else 'NOT HELD'}: {least:.2f}")
    print(f"peak RSS of the client: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB (it keeps the blobs, too)")
    if given.json:
        given.json.write_text(json.dumps({"rows": found, "load": os.getloadavg(), "cores": os.cpu_count()}, indent=1))


if __name__ == "__main__":
    main()
