"""Bulk transfers that share up and down links fairly.

A transfer's rate is min(up / transfers on the sender's up link, down / transfers on the receiver's down link), in whole
bits a second, and changes whenever a transfer begins or ends at either end. (Not max-min: what a slow partner leaves over
is not given to the others.) What is left is counted in billionths of a bit, so that rate x nanoseconds is an exact integer.

Transfers that are through at one instant say so in the order in which their rates last changed; those whose rates changed
together, port by port as the ports were touched, and at a port in the order of their starts. Nobody is asked more often for
that: a change at a port costs what it does to those that begin there, or that another end holds up from then on (`lanes`).
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from kuberml.worlds.simulated.lanes import Flow, Lane
from kuberml.worlds.simulated.loop import VirtualLoop

if TYPE_CHECKING:
    from kuberml.worlds.simulated.links import Port

_MANY_TURNS = 64


class Flows:
    """All transfers under way."""

    def __init__(self, loop: VirtualLoop, connected: Callable[[Port, Port], bool]) -> None:
        self._loop, self._connected = loop, connected
        self._touched: dict[Port, None] = {}
        self._unsettled: dict[Flow, None] = {}  # whom the next round looks at, whatever happened to their lanes
        self._started, self._round = 0, 0
        self._context = contextvars.Context()

    def start(self, flow: Flow) -> None:
        """Begin now."""
        self._started += 1
        flow.number = self._started
        flow.up.guests[flow] = flow.down.guests[flow] = self._unsettled[flow] = None
        self._touch(flow.source)
        self._touch(flow.target)

    def cancel(self, flow: Flow) -> None:
        """Stop; nothing happens if it has ended."""
        if flow in flow.up.binds or flow in flow.up.guests:
            self._end(flow, flow.left_nb(self._loop.now_ns))

    def review(self, port: Port) -> None:
        """Something else has changed at a port: what it can carry, or whom it can reach."""
        for lane in (port.outgoing, port.incoming):
            self._unsettled.update(lane.binds)
            self._unsettled.update(lane.guests)
        self._touch(port)

    def _touch(self, port: Port) -> None:
        """The rates at `port` are computed anew, once, after everything else that is due at this instant."""
        if not self._touched:
            self._loop.at_ns(self._loop.now_ns, self._settle, context=self._context)
        self._touched[port] = None

    def _settle(self) -> None:
        """One round of pricing: new shares, then who is bound where."""
        self._round += 1
        lanes = [lane for port in self._touched for lane in (port.outgoing, port.incoming)]
        unsettled, self._touched, self._unsettled = self._unsettled, {}, {}
        for lane in self._priced(lanes):
            unsettled.update(dict.fromkeys(lane.held_up() if lane.share_bps > lane.former_bps else lane.too_fast()))
        for flow in unsettled:
            lanes += self._place(flow)
        for lane in dict.fromkeys(lanes):
            self._wait(lane)

    def _priced(self, lanes: Iterable[Lane]) -> list[Lane]:
        """Those whose share is another now. Each takes its turn, with a place for everybody on it."""
        changed = []
        for lane in lanes:
            turn = self._loop.reserve(self._started + 1)
            if len(lane):
                lane.turns[self._round] = turn
                if lane.price(self._loop.now_ns, self._round):
                    changed.append(lane)
            else:
                lane.turns.clear()
        return changed

    def _place(self, flow: Flow) -> list[Lane]:
        """Let the narrower end bind a transfer. The lanes that have others to wait for now."""
        was, to, now_ns = flow.lane, self._narrower(flow), self._loop.now_ns
        if to is was or not (flow in flow.up.binds or flow in flow.up.guests):
            return []
        left_nb = flow.left_nb(now_ns)
        same = was is not None and to is not None and was.share_before(self._round) == to.share_bps
        priced = flow.last_priced(before=self._round) if same else self._round
        if was is not None:
            was.release(flow)
        flow.ends_nb, flow.priced, flow.bound = left_nb, priced, self._round
        if to is not None:
            to.bind(flow, left_nb, now_ns)
        return [lane for lane in (was, to) if lane is not None]

    def _narrower(self, flow: Flow) -> Lane | None:
        up, down = flow.up, flow.down
        if not self._connected(flow.source, flow.target):
            return None
        if flow.lane is not None and up.share_bps == down.share_bps:
            return flow.lane
        return up if up.share_bps <= down.share_bps else down

    def _wait(self, lane: Lane) -> None:
        """Come back when the next one that a lane binds is through: before anything else at that instant."""
        if lane.timer is not None:
            lane.timer.cancel()
        next_ns = lane.next_ns()
        lane.timer = None
        if next_ns is not None:
            when_ns = max(next_ns, self._loop.now_ns)
            lane.timer = self._loop.at_place(when_ns, -self._loop.reserve(1), self._ripen, lane, context=self._context)
        if len(lane.turns) > _MANY_TURNS + 2 * len(lane):
            lane.forget()

    def _ripen(self, lane: Lane) -> None:
        """Let those that are through say so, each in its place among all that is due now."""
        for flow in lane.ripen(self._loop.now_ns):
            flow.timer = self._loop.at_place(self._loop.now_ns, flow.place(), self._finish, flow, context=self._context)
        self._wait(lane)

    def _finish(self, flow: Flow) -> None:
        self._end(flow, 0)
        flow.done()

    def _end(self, flow: Flow, left_nb: int) -> None:
        if flow.lane is not None:
            flow.lane.release(flow)
        del flow.up.guests[flow], flow.down.guests[flow]
        moved = flow.size_bytes * (flow.total_nb - left_nb) // flow.total_nb
        flow.source.count_sent(moved, self._loop.now_ns, is_blob=flow.is_blob)
        flow.target.count_received(moved, self._loop.now_ns, is_blob=flow.is_blob)
        self._touch(flow.source)
        self._touch(flow.target)
