"""Every time here is computed by hand: 8 Mbit/s is 1 byte a microsecond; one way takes 10 + 10 ms."""

from functools import partial

import pytest

from kuberml.core.errors import ConfigError
from kuberml.core.ids import NodeId
from kuberml.worlds.simulated.devices import LinkSpec
from kuberml.worlds.simulated.links import SESSION_GAP_NS, Network, Port
from kuberml.worlds.simulated.loop import VirtualLoop
from tests.worlds.simulated.little import LINK, MS

US = 1000


class Wire:
    """A network of ports and a list of what was delivered when."""

    def __init__(self, seed: int = 1, **links: LinkSpec) -> None:
        self.loop = VirtualLoop()
        self.net = Network(self.loop, seed)
        self.ports = {name: self.net.add(NodeId(name), link) for name, link in links.items()}
        self.delivered: list[tuple[str, int]] = []

    def __getitem__(self, name: str) -> Port:
        return self.ports[name]

    def send(self, source: str, target: str, size_bytes: int, *, at_ns: int = 0, what: str = "") -> None:
        note = partial(self._note, what or f"{source}->{target}")
        self.loop.at_ns(at_ns, self.net.send, self[source], (self[target],), size_bytes, False, note)

    def move(self, source: str, target: str, size_bytes: int, *, at_ns: int = 0, what: str = "") -> None:
        note = partial(self._note, what or f"{source}->{target}")
        self.loop.at_ns(at_ns, self.net.transfer, self[source], self[target], size_bytes, True, note)

    def run(self, until_s: int = 1000) -> list[tuple[str, int]]:
        self.loop.run(self.loop.sleep_ns(until_s * 10**9))
        return self.delivered

    def _note(self, what: str, port: Port) -> None:
        self.delivered.append((what, self.loop.now_ns))


def test_a_message_takes_its_bytes_and_both_latencies() -> None:
    wire = Wire(a=LINK, b=LINK)
    wire.send("a", "b", 1000)
    assert wire.run() == [("a->b", 1000 * US + 20 * MS)]


def test_a_message_travels_at_the_slower_rate() -> None:
    wire = Wire(a=LINK, b=LinkSpec(up_bps=1, down_bps=800_000, latency_ns=0))
    wire.send("a", "b", 1000)
    assert wire.run() == [("a->b", 10 * MS + 10 * MS)]


def test_messages_queue_first_in_first_out_on_the_up_link() -> None:
    wire = Wire(a=LINK, b=LINK, c=LINK)
    wire.send("a", "b", 3000)
    wire.send("a", "c", 1000)
    assert wire.run() == [("a->b", 3000 * US + 20 * MS), ("a->c", 4000 * US + 20 * MS)]


def test_messages_queue_on_the_down_link_in_order_of_arrival() -> None:
    wire = Wire(a=LINK, b=LINK, c=LINK)
    wire.send("a", "c", 1000)
    wire.send("b", "c", 1000)
    assert wire.run() == [("a->c", 1000 * US + 20 * MS), ("b->c", 2000 * US + 20 * MS)]


def test_a_slow_sender_does_not_hold_up_a_fast_one() -> None:
    wire = Wire(slow=LinkSpec(up_bps=8000, down_bps=1, latency_ns=0), fast=LINK, c=LINK)
    wire.send("slow", "c", 1000)
    wire.send("fast", "c", 1000)
    assert [what for what, _ in wire.run()] == ["fast->c", "slow->c"]


def test_bytes_are_counted_at_both_ends_when_they_leave_and_when_they_come() -> None:
    wire = Wire(a=LINK, b=LINK)
    wire.send("a", "b", 1000)
    wire.move("b", "a", 100_000)
    wire.run()
    assert (wire["a"].traffic.sent_control, wire["b"].traffic.received_control) == (1000, 1000)
    assert (wire["b"].traffic.sent_blob, wire["a"].traffic.received_blob) == (100_000, 100_000)
    assert wire["a"].traffic.total == wire["b"].traffic.total == 101_000


def test_one_announcement_to_many_leaves_once() -> None:
    wire = Wire(a=LINK, b=LINK, c=LINK)
    wire.net.send(wire["a"], (wire["b"], wire["c"]), 1000, False, lambda port: wire._note(port.node, port))
    assert wire.run() == [("b", 1000 * US + 20 * MS), ("c", 1000 * US + 20 * MS)]
    assert wire["a"].traffic.sent_control == 1000


def test_a_node_speaks_to_itself_for_nothing_but_the_count() -> None:
    wire = Wire(a=LINK)
    wire.send("a", "a", 1000)
    assert wire.run() == [("a->a", 0)]


def test_what_is_under_way_to_a_node_that_goes_down_is_gone() -> None:
    wire = Wire(a=LINK, b=LINK)
    wire.send("a", "b", 1000)
    wire.move("a", "b", 1_000_000)
    wire.loop.at_ns(5 * MS, wire.net.set_up, wire["b"], False)
    wire.loop.at_ns(50 * MS, wire.net.set_up, wire["b"], True)
    assert wire.run() == []
    assert wire["b"].traffic.received_control == 0
    assert wire["b"].traffic.received_blob == 5000


def test_a_cut_loses_messages_and_stalls_transfers_until_it_is_healed() -> None:
    wire = Wire(a=LINK, b=LINK, c=LINK)
    left, right = frozenset({NodeId("a")}), frozenset({NodeId("b")})
    wire.send("a", "b", 1000)
    wire.send("a", "c", 1000)
    wire.move("a", "b", 1_000_000)
    wire.loop.at_ns(10 * MS, wire.net.cut, left, right)
    wire.loop.at_ns(1010 * MS, wire.net.heal, left, right)
    assert wire.run() == [("a->c", 2000 * US + 20 * MS), ("a->b", 2000 * MS + 20 * MS)]


def test_a_slow_link_divides_both_bandwidths() -> None:
    wire = Wire(a=LINK, b=LINK)
    wire.net.set_speed(wire["a"], 10)
    wire.send("a", "b", 1000)
    wire.send("b", "a", 1000)
    assert {time for _, time in wire.run()} == {10_000 * US + 20 * MS}


def test_loss_costs_time_and_never_content() -> None:
    times = []
    for loss_ppm in (0, 300_000):
        wire = Wire(a=LinkSpec(8_000_000, 8_000_000, 10 * MS, loss_ppm), b=LINK)
        for number in range(50):
            wire.send("a", "b", 100, at_ns=number * 10**9, what=str(number))
        delivered = wire.run()
        assert sorted(int(what) for what, _ in delivered) == list(range(50))
        times.append(sum(time for _, time in delivered))
    assert times[0] < times[1]
    assert (times[1] - times[0]) % (200 * MS + 40 * MS) == 0


def test_loss_is_drawn_from_the_seed() -> None:
    runs = []
    for seed in (1, 1, 2):
        wire = Wire(seed, a=LinkSpec(8_000_000, 8_000_000, 10 * MS, 300_000), b=LINK)
        for number in range(50):
            wire.send("a", "b", 100, at_ns=number * 10**9)
        runs.append(wire.run())
    assert runs[0] == runs[1] != runs[2]


def test_air_time_and_sessions_are_what_the_radio_did() -> None:
    wire = Wire(a=LINK, b=LINK)
    for at_ns in (0, SESSION_GAP_NS, 3 * SESSION_GAP_NS):
        wire.send("a", "b", 1000, at_ns=at_ns)
    wire.run()
    assert wire["a"].airtime_ns == wire["b"].airtime_ns == 3000 * US
    assert wire["a"].sessions == 2


@pytest.mark.parametrize("field", ["up_bps", "down_bps"])
def test_a_link_that_cannot_be_is_refused(field: str) -> None:
    with pytest.raises(ConfigError, match=f"link of a: {field} must be at least 1, not 0"):
        Wire(a=LinkSpec(**{"up_bps": 1, "down_bps": 1, "latency_ns": 0, field: 0}))


def test_two_nodes_of_one_name_are_refused() -> None:
    wire = Wire(a=LINK)
    with pytest.raises(ConfigError, match="two nodes are called a"):
        wire.net.add(NodeId("a"), LINK)
