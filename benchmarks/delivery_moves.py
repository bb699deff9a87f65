"""What `delivery.py` compares: ways to move one blob, and the table of how long they took."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import socket
import ssl
import statistics
import threading
import time
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from blake3 import blake3

from kuberml.core.ids import NodeId, digest_of
from kuberml.core.seam import Intake
from kuberml.exchange.delivery import Delivery
from kuberml.knowledge.card import BlobRef
from kuberml.vault.folder import FolderStore
from kuberml.vault.growing_hash import GrowingHash
from kuberml.worlds.live.blobs.client import BlobReader
from kuberml.worlds.live.transport import LiveTransport

MIB = 1 << 20
Contest = dict[str, Callable[[BlobRef], Awaitable[None]]]
Spent = tuple[float, float, float]
"""Seconds: on the wall, of processors here, of processors in the peers' processes."""


class Rooms:
    """Memory that was written to before, for who receives: fresh memory of a virtual machine may cost more than the bytes."""

    def __init__(self) -> None:
        self._free: dict[int, list[np.ndarray]] = {}

    def take(self, size_bytes: int) -> np.ndarray:
        free = self._free.setdefault(size_bytes, [])
        return free.pop() if free else np.full(size_bytes, 1, np.uint8)

    def give(self, room: np.ndarray) -> None:
        self._free.setdefault(len(room), []).append(room)


ROOMS = Rooms()


class Memory:
    """A store that takes deliveries into memory, and checks the whole as the vault does."""

    def __init__(self) -> None:
        self.blobs: dict[str, memoryview] = {}

    def size_bytes(self, digest: str) -> None:
        return None

    def find_pieces(self, hashes: object) -> dict[bytes, Any]:
        return {}

    def put(self, blob: bytes) -> str:
        digest = digest_of(blob)
        self.blobs[digest] = memoryview(blob)
        return digest

    def part(self, digest: str, size_bytes: int) -> MemoryPart:
        return MemoryPart(self.blobs, digest, size_bytes)


class MemoryPart:
    """One blob under way in memory, hashed as a whole while it comes, as in the vault."""

    is_new = True

    def __init__(self, blobs: dict[str, memoryview], digest: str, size_bytes: int) -> None:
        self._blobs, self._digest = blobs, digest
        self._array = ROOMS.take(size_bytes)
        self._content = memoryview(self._array)
        self._hash = GrowingHash(lambda start, stop: self._content[start:stop])

    def write(self, start: int, content: memoryview) -> None:
        np.copyto(self._array[start : start + len(content)], np.frombuffer(content, np.uint8))  # others may run meanwhile
        self._hash.add(start, content)

    def finish(self) -> None:
        assert self._hash.hexdigest(len(self._content)) == self._digest
        self._blobs[self._digest] = self._content

    def close(self) -> None:
        ROOMS.give(self._array)

    async def beside(self, work: Callable[[], Any]) -> Any:
        return await asyncio.to_thread(work)


class Wire:
    """A transport that reads from one address, as the live one does once it knows where a holder is."""

    reading = LiveTransport.reading

    def __init__(self, url: str, reader: BlobReader) -> None:
        self._url, self._reader = url, reader

    async def read(self, holder: NodeId, digest: Any, start: int, stop: int, *, timeout_s: float) -> bytes:
        return await self._reader.read(self._url, digest, start, stop, stall_s=timeout_s)

    async def stream(self, holder: NodeId, digest: Any, start: int, stop: int, intake: Intake, *, timeout_s: float) -> None:
        await self._reader.read(self._url, digest, start, stop, stall_s=timeout_s, intake=intake)


async def ours(transport: Any, holder: str, ref: BlobRef, vault: FolderStore | None = None) -> None:
    """Deliver into memory, or into a vault on the disk, which then forgets it."""
    if vault is None:
        ROOMS.give(
            await asyncio.to_thread(ROOMS.take, ref.size_bytes)
        )  # fresh memory is made beside the loop: requests wait there
        memory = Memory()
        await Delivery(transport, memory).deliver(SimpleNamespace(blobs=(ref,)), [NodeId(holder)])
        assert len(memory.blobs[ref.digest]) == ref.size_bytes
    else:
        await Delivery(transport, vault).deliver(SimpleNamespace(blobs=(ref,)), [NodeId(holder)])
        assert vault.size_bytes(ref.digest) == ref.size_bytes
        vault.delete(ref.digest)


def raw(port: int, ref: BlobRef, context: ssl.SSLContext | None = None) -> None:
    with socket.create_connection(("127.0.0.1", port)) as plain:
        wire = context.wrap_socket(plain, server_hostname="127.0.0.1") if context else plain
        wire.sendall(f"{ref.digest}{0:012}{ref.size_bytes:012}".encode())
        room, got = ROOMS.take(ref.size_bytes), 0
        view = memoryview(room)
        while got < ref.size_bytes:
            got += wire.recv_into(view[got:])
        wire.close()
        ROOMS.give(room)


def raw_hashed(port: int, ref: BlobRef) -> None:
    """The bound of whatever verifies: raw TCP over two connections, and every byte hashed as ours are, once for its piece and
    once for the whole. Nothing is written, checked or asked for."""

    def half(start: int, stop: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as wire:
            wire.sendall(f"{ref.digest}{start:012}{stop:012}".encode())
            slice_, left = memoryview(bytearray(1 << 18)), stop - start
            piece, whole = blake3(), blake3()
            while left:
                got = wire.recv_into(slice_)
                piece.update(slice_[:got])
                whole.update(slice_[:got])
                left -= got

    middle = ref.size_bytes // 2
    other = threading.Thread(target=half, args=(0, middle))
    other.start()
    half(middle, ref.size_bytes)
    other.join()


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
    room, got = ROOMS.take(ref.size_bytes), 0
    data = memoryview(room)
    async for message in channel.unary_stream("/Blobs/Read")(ref.digest.encode()):
        data[got : got + len(message)] = message
        got += len(message)
    assert got == ref.size_bytes
    ROOMS.give(room)


def cpu_s(others: list[int]) -> tuple[float, float]:
    """Processor time of this process and of the peers so far: what a busy machine cannot change much."""
    spent = 0.0
    for pid in others:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        spent += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return time.process_time(), spent


async def rounds(
    contest: Contest, ref: BlobRef, count: int, pids: list[int], many: list[BlobRef] | None = None
) -> dict[str, list[Spent]]:
    """Wall and processor seconds of each contestant in each counted round; `many` blobs at once instead of one."""
    took: dict[str, list[Spent]] = {name: [] for name in contest}
    for number in range(count + 1):
        for name, move in contest.items():
            began, cpu = time.perf_counter(), cpu_s(pids)
            async with asyncio.timeout(300):
                await asyncio.gather(*(move(one) for one in many or [ref]))
            if number:
                here_s, there_s = cpu_s(pids)
                took[name].append((time.perf_counter() - began, here_s - cpu[0], there_s - cpu[1]))
    return took


def rows(title: str, took: dict[str, list[Spent]], size_bytes: int) -> list[dict[str, Any]]:
    found = []
    for name, times in took.items():
        row: dict[str, Any] = {
            "what": title,
            "who": name,
            "MB/s": size_bytes / 1e6 / statistics.median(wall for wall, _, _ in times),
            "cpu s/GB here": statistics.median(here for _, here, _ in times) / size_bytes * 1e9,
            "peers": statistics.median(there for _, _, there in times) / size_bytes * 1e9,
        }
        for base in ("tcp", "tls", "plain write, fsync"):
            if base in took:  # paired by round: what slows a round down slows both
                row[f"x {base}"] = statistics.median(b[0] / t[0] for b, t in zip(took[base], times, strict=True))
        found.append(row)
    return found


def show(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for row in found:
        rest = "  ".join(f"{name} {value:8.2f}" for name, value in row.items() if isinstance(value, float))
        print(f"{row['what']:16} {row['who']:32} {rest}", flush=True)
    return found
