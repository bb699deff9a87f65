"""Every time here is computed by hand: 8 Mbit/s is 1 MB a second; latency is 10 + 10 ms."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.worlds.simulated.devices import LinkSpec
from tests.worlds.simulated.little import LINK, MS
from tests.worlds.simulated.test_links import Wire

S = 1000 * MS
MB = 1_000_000
LATE = 20 * MS


def link(up_mbps: int, down_mbps: int) -> LinkSpec:
    return LinkSpec(up_bps=up_mbps * MB * 8, down_bps=down_mbps * MB * 8, latency_ns=10 * MS)


def test_one_transfer_has_the_whole_link() -> None:
    wire = Wire(a=LINK, b=LINK)
    wire.move("a", "b", MB)
    assert wire.run() == [("a->b", S + LATE)]


def test_two_transfers_share_an_up_link() -> None:
    wire = Wire(a=LINK, b=LINK, c=LINK)
    wire.move("a", "b", MB)
    wire.move("a", "c", MB)
    assert wire.run() == [("a->b", 2 * S + LATE), ("a->c", 2 * S + LATE)]


def test_two_transfers_share_a_down_link() -> None:
    wire = Wire(a=LINK, b=LINK, c=LINK)
    wire.move("a", "c", MB)
    wire.move("b", "c", 2 * MB)
    # both at 0.5 MB/s until a's is through at 2 s; b's second half then takes 1 s
    assert wire.run() == [("a->c", 2 * S + LATE), ("b->c", 3 * S + LATE)]


def test_a_late_one_slows_the_first_from_then_on() -> None:
    wire = Wire(a=LINK, b=LINK, c=LINK)
    wire.move("a", "b", MB)
    wire.move("a", "c", MB, at_ns=S // 2)
    # 0.5 MB alone until 0.5 s, 0.5 MB at half speed until 1.5 s; the second has 0.5 MB left and is alone until 2 s
    assert wire.run() == [("a->b", 3 * S // 2 + LATE), ("a->c", 2 * S + LATE)]


def test_the_narrower_end_decides() -> None:
    wire = Wire(server=link(10, 10), a=link(1, 1), b=link(1, 4))
    wire.move("server", "a", MB)
    wire.move("server", "b", 4 * MB)
    # the server offers 5 MB/s to each: a takes 1, b takes 4, and nobody gets what is left over
    assert wire.run() == [("server->a", S + LATE), ("server->b", S + LATE)]


def test_opposite_directions_do_not_share() -> None:
    wire = Wire(a=LINK, b=LINK)
    wire.move("a", "b", MB)
    wire.move("b", "a", MB)
    assert [time for _, time in wire.run()] == [S + LATE, S + LATE]


def test_a_cancelled_transfer_gives_its_share_back_and_counts_what_it_moved() -> None:
    wire = Wire(a=LINK, b=LINK, c=LINK)
    wire.move("a", "b", MB)
    cancel = wire.net.transfer(wire["a"], wire["c"], MB, True, lambda port: wire._note("never", port))
    wire.loop.at_ns(S, cancel)
    # half speed for 1 s, then alone
    assert wire.run() == [("a->b", 3 * S // 2 + LATE)]
    assert wire["c"].traffic.received_blob == MB // 2
    assert wire["a"].traffic.sent_blob == MB + MB // 2
    cancel()


def test_loss_makes_a_transfer_longer_by_what_is_sent_again() -> None:
    wire = Wire(a=LinkSpec(8 * MB, 8 * MB, 10 * MS, loss_ppm=200_000), b=LINK)
    wire.move("a", "b", MB)
    assert wire.run() == [("a->b", S * 5 // 4 + LATE)]


def test_a_small_blob_goes_the_quick_way() -> None:
    wire = Wire(a=LINK, b=LINK)
    wire.move("a", "b", 1000)
    assert wire.run() == [("a->b", MS + LATE)]
    assert wire["a"].traffic.sent_blob == 1000


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(20_000, 3 * MB), st.integers(0, 3 * S)), max_size=12)
)
@settings(max_examples=25, derandomize=True, deadline=None)
def test_every_byte_arrives_and_no_link_carries_more_than_it_can(moves: list[tuple[int, int, int, int]]) -> None:
    wire = Wire(a=link(1, 3), b=link(2, 1), c=link(3, 2))
    moves = [move for move in moves if move[0] != move[1]]
    for source, target, size_bytes, at_ns in moves:
        wire.move("abc"[source], "abc"[target], size_bytes, at_ns=at_ns)
    delivered = wire.run()
    assert len(delivered) == len(moves)
    end_s = max((time for _, time in delivered), default=0) / S
    for port in wire.ports.values():
        assert port.traffic.sent_blob * 8 <= port.link.up_bps * end_s
        assert port.traffic.received_blob * 8 <= port.link.down_bps * end_s
        assert not port.outgoing
        assert not port.incoming
    assert sum(port.traffic.sent_blob for port in wire.ports.values()) == sum(move[2] for move in moves)


def test_a_thousand_uploads_to_one_server_take_exactly_their_time() -> None:
    wire = Wire(server=link(100, 100), **{f"n{number}": LINK for number in range(1000)})
    for number in range(1000):
        wire.move(f"n{number}", "server", 100_000)
    assert wire.run()[-1][1] == pytest.approx(S + LATE, abs=1)
