"""The lines between members and hub: proxies on loopback, which anybody can have, or network namespaces, which need root."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable
from functools import cache
from typing import Protocol

from kuberml.worlds.live.names import free_port
from tests.faults.proxy import Line, Proxy, process_of

LOCAL = "127.0.0.1"
Pids = Callable[[], dict[int, str]]
"""The members that run now, by process."""


class Cable(Protocol):
    """What a fault does to one member's line: see `proxy.Line`."""

    delay_s: float

    def cut(self) -> None: ...
    def stall(self) -> None: ...
    def mend(self) -> None: ...


class Network(Protocol):
    """How everybody reaches the hub."""

    lines: dict[str, Cable]
    hub_listens: tuple[str, str]  # Zenoh, HTTP
    advertise: str
    inspector: str  # the address that the harness itself dials

    async def open(self, pids: Pids) -> None: ...
    async def close(self) -> None: ...
    def address(self, name: str) -> str: ...
    def prefix(self, name: str) -> list[str]: ...


class Loopback:
    """Everybody on 127.0.0.1, a proxy before each of the hub's doors."""

    def __init__(self, members: list[str]) -> None:
        self.lines: dict[str, Cable] = {name: Line() for name in members}
        port, http_port = free_port(LOCAL), free_port(LOCAL)
        self.hub_listens, self.inspector = (f"{LOCAL}:{port}", f"{LOCAL}:{http_port}"), f"{LOCAL}:{port}"
        self._http = Proxy(http_port, self._line_of)
        self._doors = {name: Proxy(port, lambda port, name=name: self.lines[name]) for name in members}
        self._pids: Pids = dict

    async def open(self, pids: Pids) -> None:
        """Listen."""
        self._pids = pids
        for proxy in (self._http, *self._doors.values()):
            await proxy.open()
        self.advertise = f"http://{LOCAL}:{self._http.port}"

    async def close(self) -> None:
        """Stop."""
        for line in self.lines.values():
            line.mend()
        for proxy in (self._http, *self._doors.values()):
            await proxy.close()

    def address(self, name: str) -> str:
        """What this member dials."""
        return f"{LOCAL}:{self._doors[name].port}"

    def prefix(self, name: str) -> list[str]:
        """What a command begins with."""
        return []

    def _line_of(self, port: int) -> Cable | None:
        pids = self._pids()
        found = process_of(port, list(pids))
        return None if found is None else self.lines[pids[found]]


class Wire:
    """One member's virtual Ethernet cable. Pulled, nothing comes through and no connection ends."""

    delay_s = 0.0  # namespaces do not delay

    def __init__(self, space: str, device: str) -> None:
        self._space, self._device = space, device

    def stall(self) -> None:
        """Pull it out of the hub's side."""
        _ip("-n", self._space, "link", "set", self._device, "down")

    cut = stall

    def mend(self) -> None:
        """Put it in again."""
        _ip("-n", self._space, "link", "set", self._device, "up")


class Namespaces:
    """Each process in a network of its own, with one cable to the hub's; addresses 10.211.N.0/30, the hub is 10.211.255.1."""

    HUB = "10.211.255.1"

    def __init__(self, members: list[str]) -> None:
        self._tag = f"kb{os.getpid() % 100_000}"
        self._numbers = {name: number for number, name in enumerate([*members, "inspector"], 1)}
        self.lines: dict[str, Cable] = {name: Wire(self._space("hub"), f"h{self._numbers[name]}") for name in members}
        self.hub_listens, self.advertise = ("0.0.0.0:7447", "0.0.0.0:7448"), f"http://{self.HUB}:7448"
        self.inspector = f"{self.HUB}:7447"

    async def open(self, pids: Pids) -> None:
        """Lay the cables."""
        hub = self._space("hub")
        _ip("netns", "add", hub)
        _ip("-n", hub, "link", "set", "lo", "up")
        _ip("-n", hub, "addr", "add", f"{self.HUB}/32", "dev", "lo")
        for name, number in self._numbers.items():
            near, far, space = f"{self._tag}m{number}", f"h{number}", self._space(name)
            _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", hub)
            inside: list[str] = []
            if name != "inspector":  # that is this process
                _ip("netns", "add", space)
                _ip("link", "set", near, "netns", space)
                inside = ["-n", space]
                _ip(*inside, "link", "set", "lo", "up")
            _ip(*inside, "addr", "add", f"10.211.{number}.2/30", "dev", near)
            _ip(*inside, "link", "set", near, "up")
            _ip("-n", hub, "addr", "add", f"10.211.{number}.1/30", "dev", far)
            _ip("-n", hub, "link", "set", far, "up")
            _ip(*inside, "route", "add", f"{self.HUB}/32", "via", f"10.211.{number}.1")

    async def close(self) -> None:
        """Take everything away; cables go with their namespaces."""
        for name in ("hub", *self._numbers):
            with contextlib.suppress(subprocess.CalledProcessError):  # it never came so far
                _ip("netns", "del", self._space(name))

    def address(self, name: str) -> str:
        """What this member dials."""
        return self.inspector

    def prefix(self, name: str) -> list[str]:
        """What a command begins with."""
        return ["ip", "netns", "exec", self._space(name)]

    def _space(self, name: str) -> str:
        return f"{self._tag}-{name}"


@cache
def why_no_namespaces() -> str:
    """Why this process cannot make networks; "" if it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    try:
        name = f"kb-try-{os.getpid()}"
        _ip("netns", "add", name)
        try:
            _ip("-n", name, "link", "add", "try0", "type", "veth", "peer", "name", "try1")
        finally:
            _ip("netns", "del", name)
    except FileNotFoundError:
        return "network namespaces need the command `ip` (Debian: iproute2)"
    except subprocess.CalledProcessError as error:
        return f"network namespaces are not allowed here: {error.stderr.decode().strip()}"
    return ""


def _ip(*command: str) -> None:
    subprocess.run(["ip", *command], check=True, capture_output=True)
