"""One direction of a node's access, and the bulk transfers that it carries; `flows` says what moves when.

Of a lane's transfers some go at its own rate, an equal part of it: those that it *binds*. The others are held up by the
lane at their other end, and are *guests*. All that a lane binds have been served alike since they were bound, so one number
(`served_nb`, in billionths of a bit) stands for the progress of all of them: a server's thousand transfers cost no more
when their rate changes than one.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import TYPE_CHECKING

from kuberml.core.units import NS
from kuberml.worlds.simulated.calls import Timer

if TYPE_CHECKING:
    from kuberml.worlds.simulated.links import Port

PPM = 1_000_000


def ceil_div(a: int, b: int) -> int:
    """Round a / b up."""
    return -(-a // b)


class Flow:
    """One transfer under way. `loss_ppm` of what is sent is sent again.

    Attributes:
        number: of its start; the order of those that meet.
        lane: the lane that binds it; None: it has not begun, or stands still at a cut.
        ends_nb: what its lane will have served when it is through; without a lane, what is left.
        bound, priced: the rounds of pricing in which it was bound, and in which its rate had changed before.
        timer: set once it is through and only has to say so.
    """

    __slots__ = ("bound", "done", "down", "ends_nb", "is_blob", "lane", "number", "priced", "size_bytes",
                 "source", "target", "timer", "total_nb", "up")  # fmt: skip

    def __init__(
        self, source: Port, target: Port, size_bytes: int, *, is_blob: bool, loss_ppm: int, done: Callable[[], None]
    ) -> None:
        self.source, self.target, self.size_bytes, self.is_blob, self.done = source, target, size_bytes, is_blob, done
        self.up, self.down = source.outgoing, target.incoming
        self.total_nb = self.ends_nb = ceil_div(size_bytes * 8 * NS * PPM, PPM - loss_ppm)
        self.lane: Lane | None = None
        self.number = self.bound = self.priced = 0
        self.timer: Timer | None = None

    def left_nb(self, now_ns: int) -> int:
        """Billionths of a bit that are still to come."""
        return self.ends_nb if self.lane is None else max(0, self.ends_nb - self.lane.served_by(now_ns))

    def other(self, lane: Lane) -> Lane:
        """The lane at the other end."""
        return self.down if lane is self.up else self.up

    def last_priced(self, before: int = 1 << 62) -> int:
        """The last round in which its rate changed, of those `before` one."""
        if self.lane is None:
            return self.priced
        lane_priced = self.lane.priced if self.lane.priced < before else self.lane.formerly
        return lane_priced if lane_priced > self.bound else self.priced

    def place(self) -> int:
        """Its place among the loop's timers: given when its rate last changed, at the port that was touched first."""
        round_ = self.last_priced()
        return self.number + min(lane.turns[round_] for lane in (self.up, self.down) if round_ in lane.turns)


class Lane:
    """See the module.

    Attributes:
        capacity_bps: of the lane as it is now.
        binds, guests: what it carries.
        share_bps: what each of those has that it binds; `former_bps` before the last round that changed it.
        served_nb: what each would have been served that was there from the beginning, at `since_ns`.
        priced: the round of pricing that last changed its share; `formerly`: the one before.
        turns: its place in the rounds that touched it, as far as somebody's rate was last changed there.
        floor_bps: no transfer that it binds would be held up at its other end before its share exceeds this.
        ripe: of those it binds, who is through and is about to say so.
        timer: at which the next ones are through.
    """

    __slots__ = ("binds", "capacity_bps", "floor_bps", "former_bps", "formerly", "guests", "next", "priced", "ripe",
                 "served_nb", "share_bps", "since_ns", "timer", "turns")  # fmt: skip

    def __init__(self, capacity_bps: int) -> None:
        self.capacity_bps = capacity_bps
        self.binds: dict[Flow, None] = {}
        self.guests: dict[Flow, None] = {}
        self.share_bps = self.former_bps = 0
        self.served_nb = self.since_ns = self.priced = self.formerly = self.floor_bps = 0
        self.turns: dict[int, int] = {}
        self.next: list[tuple[int, int, Flow]] = []
        self.ripe: dict[Flow, None] = {}
        self.timer: Timer | None = None

    def __len__(self) -> int:
        return len(self.binds) + len(self.guests)

    def flows(self) -> list[Flow]:
        """All that it carries, in the order of their starts."""
        return sorted((*self.binds, *self.guests), key=lambda flow: flow.number)

    def served_by(self, now_ns: int) -> int:
        """`served_nb` now."""
        return self.served_nb + self.share_bps * (now_ns - self.since_ns)

    def price(self, now_ns: int, round_: int) -> int:
        """Take the equal part of now: how much more it is than it was, bits a second."""
        share_bps = max(1, self.capacity_bps // len(self))
        more_bps = share_bps - self.share_bps
        if more_bps:
            self.served_nb, self.since_ns = self.served_by(now_ns), now_ns
            self.former_bps, self.share_bps = self.share_bps, share_bps
            self.formerly, self.priced = self.priced, round_
            for flow in self.ripe:  # it has another place now
                assert flow.timer is not None
                flow.timer.cancel()
                flow.timer = None
                self._await(flow)
            self.ripe.clear()
        return more_bps

    def held_up(self) -> list[Flow]:
        """Of those it binds, whom the other end gives less by now."""
        if self.share_bps <= self.floor_bps:
            return []
        rivals_bps = {flow: flow.other(self).share_bps for flow in self.binds}
        self.floor_bps = min((rate for rate in rivals_bps.values() if rate >= self.share_bps), default=1 << 62)
        return [flow for flow, rate_bps in rivals_bps.items() if rate_bps < self.share_bps]

    def too_fast(self) -> list[Flow]:
        """Of its guests, who had more from the other end than they get here by now."""
        found = []
        for flow in self.guests:
            if flow.lane is not None:
                if flow.lane.share_bps > self.share_bps:
                    found.append(flow)
                else:
                    flow.lane.floor_bps = min(flow.lane.floor_bps, self.share_bps)
        return found

    def share_before(self, round_: int) -> int:
        """What the share was before a round that is the last so far."""
        return self.former_bps if self.priced == round_ else self.share_bps

    def bind(self, flow: Flow, left_nb: int, now_ns: int) -> None:
        """Hold a guest up from now on."""
        del self.guests[flow]
        self.binds[flow] = None
        self.floor_bps = min(self.floor_bps, flow.other(self).share_bps)
        flow.lane, flow.ends_nb = self, self.served_by(now_ns) + left_nb
        self._await(flow)

    def release(self, flow: Flow) -> None:
        """Make one that it binds a guest again. The caller takes its `left_nb` first."""
        del self.binds[flow]
        self.guests[flow] = None
        self.ripe.pop(flow, None)
        flow.lane = None
        if flow.timer is not None:
            flow.timer.cancel()
            flow.timer = None

    def forget(self) -> None:
        """Keep only the turns that decide somebody's place."""
        needed = {flow.last_priced() for flow in (*self.binds, *self.guests)}
        self.turns = {round_: turn for round_, turn in self.turns.items() if round_ in needed}

    def _await(self, flow: Flow) -> None:
        heapq.heappush(self.next, (flow.ends_nb, flow.number, flow))

    def next_ns(self) -> int | None:
        """When the next one is through; None: it binds none that are not ripe."""
        waiting = self.next
        while waiting and not self._is_waiting(*waiting[0]):
            heapq.heappop(waiting)
        return self.since_ns + ceil_div(max(0, waiting[0][0] - self.served_nb), self.share_bps) if waiting else None

    def ripen(self, now_ns: int) -> list[Flow]:
        """Who is through by now."""
        found, served_nb = [], self.served_by(now_ns)
        while self.next and self.next[0][0] <= served_nb:
            entry = heapq.heappop(self.next)
            if self._is_waiting(*entry) and entry[2] not in self.ripe:
                found.append(entry[2])
                self.ripe[entry[2]] = None
        return found

    def _is_waiting(self, ends_nb: int, _: int, flow: Flow) -> bool:
        return flow.lane is self and flow.ends_nb == ends_nb
