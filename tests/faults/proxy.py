"""A TCP proxy that loses the network for whom it is told: cuts, silence, delay.

One port in front of the hub's Zenoh port for each member, and one in front of its HTTP door for all of them: there a
connection's owner is found by its process, so a member that is cut off is cut off from both.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

CHUNK_BYTES = 1 << 16


class Line:
    """One member's connection to the hub, in all its parts."""

    def __init__(self) -> None:
        self._clear = asyncio.Event()
        self._clear.set()
        self._cut = False
        self.delay_s = 0.0
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Connections break at once, and new ones too."""
        self._cut = True
        for writer in list(self._writers):
            writer.transport.abort()

    def stall(self) -> None:
        """Nothing comes through, and nobody is told: a pulled cable."""
        self._clear.clear()

    def mend(self) -> None:
        """As it was. What was under way goes on, as TCP does."""
        self._cut, self.delay_s = False, 0.0
        self._clear.set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Bytes in one direction, until that ends."""
        while data := await reader.read(CHUNK_BYTES):
            await self._clear.wait()
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    async def join(self, near: tuple[asyncio.StreamReader, asyncio.StreamWriter], port: int) -> None:
        """Connect a connection that came in with the hub's port."""
        self._writers.add(near[1])
        far = None
        try:
            await self._clear.wait()
            if self._cut:
                return
            far = await asyncio.open_connection("127.0.0.1", port)
            self._writers.add(far[1])
            await _both(self.carry(near[0], far[1]), self.carry(far[0], near[1]))
        except OSError:
            pass  # one side is gone
        finally:
            for writer in (near[1], *([far[1]] if far else [])):
                self._writers.discard(writer)
                writer.transport.abort()


async def _both(*directions: object) -> None:
    """Until both directions have ended, or one is broken: then the other is too."""
    tasks = [asyncio.ensure_future(direction) for direction in directions]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Proxy:
    """Listens on a port of its own in front of another."""

    def __init__(self, port: int, line_of: Callable[[int], Line | None]) -> None:
        """`line_of`: whose connection it is that comes from this port; None: nobody's we know, it passes."""
        self._target, self._line_of = port, line_of
        self._open = Line()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def open(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop, and break what is open."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            peer = writer.get_extra_info("peername")
            line = self._line_of(peer[1]) if peer else None
            await (line or self._open).join((reader, writer), self._target)
        finally:
            self._tasks.discard(task)


def process_of(port: int, candidates: list[int]) -> int | None:
    """Which of these processes has a connection from this local port."""
    wanted = f"{port:04X}"
    inodes = {
        f"socket:[{fields[9]}]"
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if (fields := line.split()) and fields[1].endswith(f":{wanted}")
    }
    for pid in candidates:
        with contextlib.suppress(OSError):
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{pid}/fd/{descriptor}") in inodes:
                        return pid
    return None
