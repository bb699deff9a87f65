"""The processes of `delivery.py`: a hub, holders, rivals' servers, and a line that is 50 ms long.

`python benchmarks/delivery_peers.py ROLE FOLDER` prints one line of JSON (where it listens) and runs until its stdin closes.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import socket
import ssl
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from aiohttp import web

from kuberml.knowledge.signing import Keys
from kuberml.vault.folder import FolderStore
from kuberml.worlds.live.blobs.door import Door
from kuberml.worlds.live.blobs.server import BlobServer
from kuberml.worlds.live.blobs.tls import Tls
from kuberml.worlds.live.hub.process import HubProcess
from kuberml.worlds.live.names import free_port
from kuberml.worlds.live.trust.certificates import certify, make_authority
from kuberml.worlds.live.world import LiveWorld

ONE_WAY_S = 0.025
LINE_BYTES = 256 << 20
"""On the long line at most: far more than 50 ms hold at any speed that this machine reaches."""


def certificates(folder: Path, name: str) -> Tls:
    if not (folder / "ca").exists():
        make_authority(folder / "ca", "benchmark")
    files = certify(folder / "ca", folder / name, name, key=Keys.generate().public, hosts=("127.0.0.1",))
    return Tls(files.ca, files.cert, files.key)


def listen(answer: Callable[[socket.socket], None]) -> int:
    """A thread for each connection, as the plainest server has."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)

    def accept() -> None:
        while True:
            connection, _ = listening.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listening.getsockname()[1]


def raw(store: FolderStore, context: ssl.SSLContext | None = None) -> int:
    """Answers a digest, start and stop (64, 12 and 12 characters) with these bytes, from memory: `sendall` and nothing else."""
    cache: dict[str, bytes] = {}

    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            wire = context.wrap_socket(connection, server_side=True) if context else connection
            with wire:
                asked = wire.recv(88).decode()
                digest, start, stop = asked[:64], int(asked[64:76]), int(asked[76:])
                if digest not in cache:
                    cache.clear()
                    cache[digest] = store.get(digest)  # type: ignore[arg-type]
                with memoryview(cache[digest]) as view:
                    wire.sendall(view[start:stop])

    return listen(answer)


@contextlib.asynccontextmanager
async def echo(folder: Path) -> AsyncIterator[dict[str, object]]:
    """What any small request costs here at least: a socket that gives back what it gets, in a process of its own."""

    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while data := connection.recv(4096):
                connection.sendall(data)

    yield {"port": listen(answer)}


@contextlib.asynccontextmanager
async def hub(folder: Path) -> AsyncIterator[dict[str, object]]:
    async with HubProcess.open(folder / "hub", listen="127.0.0.1:0", http="127.0.0.1:0") as process:
        yield {"address": process.address}


@contextlib.asynccontextmanager
async def holder(folder: Path) -> AsyncIterator[dict[str, object]]:
    """The vault's holders: one with an HTTP door, one that can only be reached through the router, one with mutual TLS."""
    address = json.loads((folder / "hub.json").read_text())["address"]
    port, tls = free_port("127.0.0.1"), certificates(folder, "holder")
    common = {"role": "peer", "keys": Keys.generate(), "vault": folder / "vault"}
    async with (
        LiveWorld.open(address, node="holder", serve_http=f"127.0.0.1:{port}", **common) as world,
        LiveWorld.open(address, node="tunnel", **common) as tunnel,
    ):
        for one in (world, tunnel):
            await one.enter(10)

        async def echo(sender: object, body: bytes) -> bytes:
            return body

        world.transport.serve("echo", echo)
        app = web.Application()
        app.add_routes(BlobServer(world.store, lambda ticket, subject: None).routes())
        door = Door(app, tls=tls.server_context())
        secure = await door.open("127.0.0.1")
        try:
            yield {
                "http": port,
                "https": secure,
                "tcp": raw(world.store),
                "tls": raw(world.store, tls.server_context()),
            }
        finally:
            await door.close()


@contextlib.asynccontextmanager
async def rpc(folder: Path) -> AsyncIterator[dict[str, object]]:
    """gRPC streaming as its guides do it: messages of 1 MiB, from the same file."""
    import grpc

    async def stream(digest: bytes, context: object) -> AsyncIterator[bytes]:
        name = digest.decode()
        with (folder / "vault" / "blobs" / name[:2] / name).open("rb") as file:
            while data := file.read(1 << 20):
                yield data

    server = grpc.aio.server(options=[("grpc.max_send_message_length", -1)])
    handler = grpc.unary_stream_rpc_method_handler(stream)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Blobs", {"Read": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield {"port": port}
    finally:
        await server.stop(0)


@contextlib.asynccontextmanager
async def line(folder: Path) -> AsyncIterator[dict[str, object]]:
    """Ports that lead to the holder's, 25 ms away in each direction."""
    ports = json.loads((folder / "holder.json").read_text())
    yield {name: listen(lambda near, to=ports[name]: _lengthen(near, to)) for name in ("http", "tcp")}


def _lengthen(near: socket.socket, port: int) -> None:
    far = socket.create_connection(("127.0.0.1", port))
    far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for source, target in ((near, far), (far, near)):
        under_way: collections.deque[tuple[float, bytes]] = collections.deque()
        change = threading.Condition()
        threading.Thread(target=_enter, args=(source, under_way, change), daemon=True).start()
        threading.Thread(target=_leave, args=(target, under_way, change), daemon=True).start()


def _enter(source: socket.socket, under_way: collections.deque[tuple[float, bytes]], change: threading.Condition) -> None:
    while True:
        try:
            data = source.recv(1 << 20)
        except OSError:
            data = b""
        with change:
            under_way.append((time.monotonic() + ONE_WAY_S, data))
            change.notify()
            change.wait_for(lambda: len(under_way) < LINE_BYTES >> 20)
        if not data:
            return


def _leave(target: socket.socket, under_way: collections.deque[tuple[float, bytes]], change: threading.Condition) -> None:
    with contextlib.suppress(OSError):
        while True:
            with change:
                change.wait_for(lambda: bool(under_way))
                due_s, data = under_way.popleft()
                change.notify()
            time.sleep(max(0.0, due_s - time.monotonic()))
            if not data:
                break
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


async def main(role: str, folder: Path) -> None:
    async with {"echo": echo, "hub": hub, "holder": holder, "rpc": rpc, "line": line}[role](folder) as where:
        (folder / f"{role}.json").write_text(json.dumps(where))
        print(json.dumps(where), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
