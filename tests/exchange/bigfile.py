"""Publish and receive large files in processes of their own: `python -m tests.exchange.bigfile SIZE_MIB` says what it takes.

    write FILE SIZE_BYTES                 a safetensors file of two tensors
    publish FILE VAULT CARD               into a vault; its card into a file
    receive VAULT CARD TARGET PAUSE_S     out of that vault into another, PAUSE_S a read; a line with the bytes so far each time

Each ends with a line of JSON: growth of the largest resident size over the start in MiB, seconds, and what was read.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kuberml.core.ids import Digest, NodeId
from kuberml.core.seam import Reading
from kuberml.exchange.delivery import Delivery, Progress
from kuberml.knowledge.card import decode_card, encode_card
from kuberml.knowledge.from_file import make_from_file
from kuberml.knowledge.layout import Entry, canonical, write_header
from kuberml.knowledge.signing import Keys
from kuberml.vault.folder import FolderStore
from tests.exchange.sources import LIVE, Ways

MIB = 1 << 20


class OtherVault(Ways):
    """`core.seam.Transport` that reads where another vault lies."""

    def __init__(self, path: str, pause_s: float, reading: Reading = LIVE) -> None:
        super().__init__(reading=reading)
        self._store, self._pause_s = FolderStore(path), pause_s
        self.read_bytes = 0

    async def read(self, holder: NodeId, digest: Digest, start: int, stop: int, *, timeout_s: float) -> bytes:
        await asyncio.sleep(self._pause_s)
        content = await asyncio.to_thread(self._store.read, digest, start, stop)
        self.read_bytes += len(content)
        return content

    def close(self) -> None:
        self._store.close()


def write(path: str, size_bytes: int) -> None:
    """Two tensors, float32, of about that size."""
    half = size_bytes // 8
    entries = canonical({name: Entry("F32", (half,), (0, 4 * half)) for name in ("head", "trunk")})
    step = MIB // 4
    with open(path, "wb") as file:
        file.write(write_header(entries))
        for number in range(0, 2 * half, step):
            values = range(number, min(number + step, 2 * half))
            file.write(b"".join((value & 0x3FFFFFFF).to_bytes(4, "little") for value in values) if len(values) < step
                       else _block(number, step))  # fmt: skip


def _block(start: int, count: int) -> bytes:
    import numpy as np  # after the start was measured

    return bytes((np.arange(start, start + count, dtype=np.uint32) & 0x3FFFFFFF).tobytes())


def publish(path: str, vault: str, card: str) -> int:
    """Into a vault."""
    with FolderStore(vault) as store:
        signed = make_from_file(path, store, keys=Keys(bytes(32)), task="t", slot="s", version=1, learned_at_ms=1)
        store.put_card(signed.digest, encode_card(signed))
        Path(card).write_bytes(encode_card(signed))
    return signed.card.size_bytes


def receive(vault: str, card: str, target: str, pause_s: float) -> int:
    """Out of it."""
    signed, door = decode_card(Path(card).read_bytes()), OtherVault(vault, pause_s)

    def watch(progress: Progress) -> None:
        print(progress.done_bytes, flush=True)

    try:
        with FolderStore(target) as store:
            asyncio.run(Delivery(door, store, watch=watch).deliver(signed.card, [NodeId("other")]))
            store.put_card(signed.digest, encode_card(signed))
    finally:
        door.close()
    return door.read_bytes


def resident_mib() -> float:
    """The largest resident size of this process so far."""
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) / 1024


def main(arguments: list[str]) -> Any:
    """One of the commands, measured."""
    before_mib, began_s = resident_mib(), time.perf_counter()
    match arguments:
        case ["write", path, size]:
            write(path, int(size))
            count = int(size)
        case ["publish", path, vault, card]:
            count = publish(path, vault, card)
        case ["receive", vault, card, target, pause_s]:
            count = receive(vault, card, target, float(pause_s))
        case [size_mib]:
            return side_by_side(int(size_mib))
        case _:
            raise SystemExit(__doc__)
    taken = {"bytes": count, "growth_mib": round(resident_mib() - before_mib, 1), "resident_mib": round(resident_mib(), 1),
             "seconds": round(time.perf_counter() - began_s, 2)}  # fmt: skip
    print(json.dumps(taken))
    return taken


def side_by_side(size_mib: int) -> None:
    """All commands, each in a process of its own."""
    import subprocess

    with tempfile.TemporaryDirectory() as folder:
        for command in (["write", "f", str(size_mib * MIB)], ["publish", "f", "a", "card"], ["receive", "a", "card", "b", "0"]):
            arguments = [f"{folder}/{word}" if word in ("f", "a", "b", "card") else word for word in command]
            done = subprocess.run([sys.executable, "-m", __spec__.name, *arguments], capture_output=True, text=True, check=True)
            print(command[0], done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main(sys.argv[1:])
