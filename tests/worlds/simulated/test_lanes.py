"""Lanes come to the same as looking at every transfer whenever anything changes, and cost less."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core.ids import NodeId
from kuberml.worlds.simulated.devices import LinkSpec
from kuberml.worlds.simulated.flows import Flows
from kuberml.worlds.simulated.lanes import Flow, ceil_div
from kuberml.worlds.simulated.links import Network, Port
from kuberml.worlds.simulated.loop import VirtualLoop
from tests.worlds.simulated.little import MS

MBPS = 1_000_000
CONTEXT = contextvars.Context()


class PlainFlows(Flows):
    """The law, word for word: at each change everybody at the port is looked at, and has a timer of its own."""

    def __init__(self, loop: VirtualLoop, connected: Callable[[Port, Port], bool]) -> None:
        super().__init__(loop, connected)
        self.rates_bps: dict[Flow, int] = {}
        self.since_ns: dict[Flow, int] = {}

    def _settle(self) -> None:
        touched, self._touched = self._touched, {}
        lanes = [lane for port in touched for lane in (port.outgoing, port.incoming)]
        for flow in dict.fromkeys(flow for lane in lanes for flow in lane.flows()):
            up_bps, down_bps = flow.source.up_bps // len(flow.up), flow.target.down_bps // len(flow.down)
            rate_bps = max(1, min(up_bps, down_bps)) if self._connected(flow.source, flow.target) else 0
            if rate_bps != self.rates_bps.get(flow, 0):
                self._go_on(flow)
                self.rates_bps[flow] = rate_bps
                if flow.timer is not None:
                    flow.timer.cancel()
                    flow.timer = None
                if rate_bps:
                    when_ns = self._loop.now_ns + ceil_div(flow.ends_nb, rate_bps)
                    flow.timer = self._loop.at_ns(when_ns, self._finish, flow, context=CONTEXT)

    def cancel(self, flow: Flow) -> None:
        if flow in flow.up.guests:
            self._go_on(flow)
            self._end(flow, flow.ends_nb)

    def _end(self, flow: Flow, left_nb: int) -> None:
        if flow.timer is not None:
            flow.timer.cancel()
        super()._end(flow, left_nb)

    def _go_on(self, flow: Flow) -> None:
        now_ns = self._loop.now_ns
        moved_nb = self.rates_bps.get(flow, 0) * (now_ns - self.since_ns.get(flow, now_ns))
        flow.ends_nb, self.since_ns[flow] = max(0, flow.ends_nb - moved_nb), now_ns


Move = tuple[int, int, int, int]
"""(from, to, bytes, when in quarters of a second)"""


def played(make: type[Flows], links: list[LinkSpec], moves: list[Move], troubles: list[tuple[int, int, int]]) -> list[Any]:
    """All that happens, in order: who began and came when, and what everybody sent and received."""
    loop = VirtualLoop()
    net = Network(loop, 0)
    net.flows = make(loop, net.connected)
    ports = [net.add(NodeId(f"n{i}"), link) for i, link in enumerate(links)]
    log: list[Any] = []
    cancels: list[Callable[[], None]] = []

    def begin(source: int, target: int, size_bytes: int, hops: int) -> None:
        def came(_: Port) -> None:
            log.append((loop.now_ns, "came", source, target))
            if hops:
                begin(target, source, size_bytes, hops - 1)

        log.append((loop.now_ns, "began", source, target))
        cancels.append(net.transfer(ports[source], ports[target], size_bytes, True, came))

    def trouble(what: int, whom: int) -> None:
        log.append((loop.now_ns, "trouble", what, whom))
        one, others = frozenset({ports[whom].node}), frozenset(port.node for port in ports) - {ports[whom].node}
        if what == 0 and cancels:
            cancels[whom % len(cancels)]()
        elif what == 1:
            net.set_speed(ports[whom], 2)
        elif what == 2:
            net.cut(one, others)
            loop.at_ns(loop.now_ns + 300 * MS, net.heal, one, others, context=CONTEXT)
        elif what == 3:
            net.set_up(ports[whom], False)
            loop.at_ns(loop.now_ns + 200 * MS, net.set_up, ports[whom], True, context=CONTEXT)

    for source, target, size_bytes, quarters in moves:
        if source % len(ports) != target % len(ports):
            begins_ns = quarters * 250 * MS
            loop.at_ns(begins_ns, begin, source % len(ports), target % len(ports), size_bytes, 2, context=CONTEXT)
    for what, whom, quarters in troubles:
        loop.at_ns(quarters * 250 * MS, trouble, what, whom % len(ports), context=CONTEXT)
    loop.run(asleep())
    return [*log, *(port.traffic for port in ports), *(port.airtime_ns for port in ports)]


async def asleep() -> None:
    await asyncio.sleep(10_000)


LINKS = st.sampled_from([LinkSpec(up * MBPS, down * MBPS, 10 * MS) for up in (1, 8, 20) for down in (8, 10)])
MOVES = st.tuples(st.integers(0, 1), st.integers(0, 7), st.sampled_from([20_000, 33_333, 40_000, 10**6]), st.integers(0, 3))
TROUBLES = st.tuples(st.integers(0, 3), st.integers(0, 7), st.integers(0, 4))


@given(st.lists(LINKS, min_size=2, max_size=8), st.lists(MOVES, min_size=1, max_size=40), st.lists(TROUBLES, max_size=4))
@settings(max_examples=60, derandomize=True, deadline=None)
def test_lanes_come_to_what_looking_at_every_transfer_comes_to(
    links: list[LinkSpec], moves: list[Move], troubles: list[tuple[int, int, int]]
) -> None:
    assert played(Flows, links, moves, troubles) == played(PlainFlows, links, moves, troubles)


def test_equal_links_and_sizes_tie_in_the_same_order() -> None:
    links = [LinkSpec(8 * MBPS, 8 * MBPS, 10 * MS)] * 6
    moves = [(i, i + step, 40_000, 0) for step in (1, 2, 3) for i in range(6)]
    assert played(Flows, links, moves, [(3, 2, 1)]) == played(PlainFlows, links, moves, [(3, 2, 1)])


def test_a_hand_out_costs_in_proportion_to_those_who_get_it() -> None:
    def cost_s(count: int) -> float:
        links = [LinkSpec(100 * MBPS, 100 * MBPS, MS), *[LinkSpec(8 * MBPS, 8 * MBPS, MS)] * count]
        moves = [(0, 1 + i, 100_000 + i, 0) for i in range(count)]
        began_s = time.process_time()
        assert len(played(Flows, links, moves, [])) == 2 * count * 3 + 2 * len(links)
        return time.process_time() - began_s

    assert min(cost_s(1000) for _ in range(2)) < 20 * min(cost_s(100) for _ in range(2))
