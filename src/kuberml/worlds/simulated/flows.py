"""Bulk transfers that share up and down links fairly.

A transfer's rate is min(up / transfers on the sender's up link, down / transfers on the receiver's down link), in whole
bits a second, and changes whenever a transfer begins or ends at either end. (Not max-min: what a slow partner leaves over
is not given to the others.) What is left is counted in billionths of a bit, so that rate x nanoseconds is an exact integer.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING

from kuberml.core.units import NS
from kuberml.worlds.simulated.loop import VirtualLoop

if TYPE_CHECKING:
    from kuberml.worlds.simulated.links import Port

PPM = 1_000_000


def ceil_div(a: int, b: int) -> int:
    """Round a / b up."""
    return -(-a // b)


class Flow:
    """One transfer under way. `loss_ppm` of what is sent is sent again."""

    __slots__ = ("done", "is_blob", "left_nb", "rate_bps", "since_ns", "size_bytes", "source", "target", "timer", "total_nb")

    def __init__(
        self, source: Port, target: Port, size_bytes: int, *, is_blob: bool, loss_ppm: int, done: Callable[[], None]
    ) -> None:
        self.source, self.target, self.size_bytes, self.is_blob, self.done = source, target, size_bytes, is_blob, done
        self.total_nb = self.left_nb = ceil_div(size_bytes * 8 * NS * PPM, PPM - loss_ppm)
        self.rate_bps = 0
        self.since_ns = 0
        self.timer: asyncio.TimerHandle | None = None


class Flows:
    """All transfers under way."""

    def __init__(self, loop: VirtualLoop, connected: Callable[[Port, Port], bool]) -> None:
        self._loop, self._connected = loop, connected
        self._touched: dict[Port, None] = {}
        self._context = contextvars.Context()

    def start(self, flow: Flow) -> None:
        """Begin now."""
        flow.since_ns = self._loop.now_ns
        flow.source.outgoing[flow] = None
        flow.target.incoming[flow] = None
        self.touch(flow.source)
        self.touch(flow.target)

    def cancel(self, flow: Flow) -> None:
        """Stop; nothing happens if it has ended."""
        if flow in flow.source.outgoing:
            self._progress(flow)
            self._end(flow)

    def touch(self, port: Port) -> None:
        """The rates at `port` are computed anew, once, after everything else that is due at this instant."""
        if not self._touched:
            self._loop.at_ns(self._loop.now_ns, self._settle, context=self._context)
        self._touched[port] = None

    def _settle(self) -> None:
        touched, self._touched = self._touched, {}
        affected = dict.fromkeys(flow for port in touched for flow in (*port.outgoing, *port.incoming))
        up_bps: dict[Port, int] = {}
        down_bps: dict[Port, int] = {}
        for flow in affected:
            rate = self._rate_bps(flow, up_bps, down_bps)
            if rate != flow.rate_bps:
                self._progress(flow)
                flow.rate_bps = rate
                self._schedule(flow)

    def _rate_bps(self, flow: Flow, up_bps: dict[Port, int], down_bps: dict[Port, int]) -> int:
        """Its part now; the parts at each port are noted, for a server's are the same for thousands of transfers."""
        source, target = flow.source, flow.target
        if not self._connected(source, target):
            return 0
        if (up := up_bps.get(source)) is None:
            up = up_bps[source] = max(1, source.up_bps // len(source.outgoing))
        if (down := down_bps.get(target)) is None:
            down = down_bps[target] = max(1, target.down_bps // len(target.incoming))
        return up if up < down else down

    def _progress(self, flow: Flow) -> None:
        now = self._loop.now_ns
        flow.left_nb = max(0, flow.left_nb - flow.rate_bps * (now - flow.since_ns))
        flow.since_ns = now

    def _schedule(self, flow: Flow) -> None:
        if flow.timer is not None:
            flow.timer.cancel()
            flow.timer = None
        if flow.rate_bps:
            when = flow.since_ns + ceil_div(flow.left_nb, flow.rate_bps)
            flow.timer = self._loop.at_ns(when, self._finish, flow, context=self._context)

    def _finish(self, flow: Flow) -> None:
        flow.left_nb = 0
        self._end(flow)
        flow.done()

    def _end(self, flow: Flow) -> None:
        if flow.timer is not None:
            flow.timer.cancel()
            flow.timer = None
        del flow.source.outgoing[flow], flow.target.incoming[flow]
        moved = flow.size_bytes * (flow.total_nb - flow.left_nb) // flow.total_nb
        flow.source.count_sent(moved, self._loop.now_ns, is_blob=flow.is_blob)
        flow.target.count_received(moved, self._loop.now_ns, is_blob=flow.is_blob)
        self.touch(flow.source)
        self.touch(flow.target)
