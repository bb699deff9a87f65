import asyncio
from functools import partial
from typing import Any

import pytest

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.core.ids import NodeId, digest_of
from kuberml.worlds.simulated.faults import Fault
from kuberml.worlds.simulated.links import HEADER_BYTES
from kuberml.worlds.simulated.transport import MAX_IN_FLIGHT
from tests.worlds.simulated.little import MS, A, B, C, world

BLOB = bytes(range(256)) * 4000


async def echo(asker: NodeId, body: bytes) -> bytes:
    return body


async def forever() -> None:
    await asyncio.sleep(10**6)


def test_a_request_costs_its_real_bytes_and_both_ways() -> None:
    here = world(A, B)

    async def ask() -> int:
        here.transport(B).serve("echo", echo)
        await here.transport(A).ask(B, "echo", b"x" * 932, timeout_s=1)
        return here.loop.now_ns

    outcome = here.run({A: ask})
    request, answer = HEADER_BYTES + 4 + 932, HEADER_BYTES + 932
    assert outcome.results[A] == (request + answer) * 1000 + 40 * MS
    assert outcome.traffic[A].sent_control == outcome.traffic[B].received_control == request
    assert outcome.traffic[A].received_control == outcome.traffic[B].sent_control == answer


def test_a_request_that_is_not_answered_ends_at_its_timeout_exactly() -> None:
    here = world(A, B)

    async def never(asker: NodeId, body: bytes) -> bytes:
        await forever()
        return b""

    async def ask() -> int:
        here.transport(B).serve("never", never)
        with pytest.raises(Unreachable, match=r"b: no answer to 'never' in 0\.5 s"):
            await here.transport(A).ask(B, "never", b"", timeout_s=0.5)
        return here.loop.now_ns

    assert here.run({A: ask}).results[A] == 500 * MS


def test_requests_beyond_the_bound_are_refused() -> None:
    here = world(A, B)

    async def slow(asker: NodeId, body: bytes) -> bytes:
        await asyncio.sleep(10)
        return b""

    async def ask() -> list[Any]:
        here.transport(B).serve("slow", slow)
        asks = [here.transport(A).ask(B, "slow", b"", timeout_s=60) for _ in range(MAX_IN_FLIGHT + 3)]
        return await asyncio.gather(*asks, return_exceptions=True)

    answers = here.run({A: ask}).results[A]
    assert answers[:MAX_IN_FLIGHT] == [b""] * MAX_IN_FLIGHT
    assert [type(answer) for answer in answers[MAX_IN_FLIGHT:]] == [RemoteError] * 3
    assert "busy" in str(answers[-1])


def test_a_bug_in_a_handler_ends_the_run_and_says_where() -> None:
    here = world(A, B)

    async def buggy(asker: NodeId, body: bytes) -> bytes:
        raise ZeroDivisionError

    async def ask() -> None:
        here.transport(B).serve("buggy", buggy)
        await here.transport(A).ask(B, "buggy", b"", timeout_s=1)

    with pytest.raises(ZeroDivisionError) as caught:
        here.run({A: ask})
    assert caught.value.__notes__ == ["in a handler of b, asked by a"]


def test_a_handler_that_answers_something_else_than_bytes_is_our_bug() -> None:
    here = world(A, B)

    async def wrong(asker: NodeId, body: bytes) -> Any:
        return "text"

    async def ask() -> None:
        here.transport(B).serve("wrong", wrong)
        await here.transport(A).ask(B, "wrong", b"", timeout_s=1)

    with pytest.raises(TypeError, match="a handler answers bytes, not str"):
        here.run({A: ask})


def test_a_node_that_is_down_is_unreachable_and_not_alive() -> None:
    here = world(faults=[Fault(at_s=1, what="leave", nodes=("b",))])

    async def ask() -> tuple[NodeId, ...]:
        here.transport(B).serve("echo", echo)
        assert await here.transport(A).ask(B, "echo", b"x", timeout_s=1) == b"x"
        await asyncio.sleep(2)
        with pytest.raises(Unreachable):
            await here.transport(A).ask(B, "echo", b"x", timeout_s=1)
        return here.transport(A).alive()

    assert here.run({A: ask, B: forever}, wait_for=[A]).results[A] == (C,)


def test_a_node_that_is_down_cannot_speak() -> None:
    here = world(A, B, faults=[Fault(at_s=1, what="leave", nodes=("a",), until_s=3)])
    errors: list[str] = []

    async def dying() -> None:
        try:
            await forever()
        finally:
            for attempt in (
                partial(here.transport(A).ask, B, "echo", b"", timeout_s=1),
                partial(here.transport(A).announce, "news", b""),
            ):
                with pytest.raises(Unreachable) as caught:
                    await attempt()
                errors.append(str(caught.value))

    here.run({A: dying, B: partial(asyncio.sleep, 2)}, wait_for=[B])
    assert errors == ["a is down"] * 2


def test_a_restarted_node_serves_only_what_it_serves_again() -> None:
    here = world(A, B, faults=[Fault(at_s=1, what="crash", nodes=("b",))])
    starts: list[int] = []

    async def server() -> None:
        starts.append(here.loop.now_ns)
        here.transport(B).serve(f"life{len(starts)}", echo)
        await forever()

    async def ask() -> None:
        await asyncio.sleep(2)
        assert await here.transport(A).ask(B, "life2", b"x", timeout_s=1) == b"x"
        with pytest.raises(RemoteError, match="serves no 'life1'"):
            await here.transport(A).ask(B, "life1", b"x", timeout_s=1)

    here.run({A: ask, B: server}, wait_for=[A])
    assert len(starts) == 2


def test_across_a_partition_nobody_is_alive() -> None:
    here = world(faults=[Fault(at_s=1, what="partition", nodes=("a",), others=("b",), until_s=2)])

    async def look() -> list[tuple[NodeId, ...]]:
        seen = []
        for _ in range(3):
            seen.append(here.transport(A).alive())
            await asyncio.sleep(0.8)
        await asyncio.sleep(1)
        return [*seen, here.transport(C).alive()]

    assert here.run({A: look}).results[A] == [(B, C), (B, C), (C,), (A, B)]


def test_a_read_that_times_out_frees_the_link_and_counts_what_came() -> None:
    here = world(A, B)

    async def read() -> None:
        digest = here.store(B).put(BLOB)
        with pytest.raises(Unreachable):
            await here.transport(A).read(B, digest, 0, len(BLOB), timeout_s=0.5)
        await asyncio.sleep(1)

    outcome = here.run({A: read})
    assert 0 < outcome.traffic[A].received_blob < 500_000
    assert not here.transport(B).port.outgoing


def test_a_liar_in_the_middle_flips_a_byte_of_every_range() -> None:
    here = world(A, B, faults=[Fault(at_s=1, what="corrupt", nodes=("b",), until_s=3)])

    async def read() -> list[bool]:
        digest = here.store(B).put(BLOB)
        honest = []
        for _ in range(3):
            content = await here.transport(A).read(B, digest, 0, len(BLOB), timeout_s=60)
            assert len(content) == len(BLOB)
            honest.append(digest_of(content) == digest)
            await asyncio.sleep(0.5)
        return honest

    assert here.run({A: read}).results[A] == [True, False, True]


def test_what_a_node_announces_it_does_not_hear_itself_and_a_closed_subscription_hears_nothing() -> None:
    here = world(A, B)

    async def listen() -> int:
        own, other, closed = (
            here.transport(A).subscribe("n"),
            here.transport(B).subscribe("n"),
            here.transport(B).subscribe("n"),
        )
        await closed.aclose()
        await closed.aclose()
        await here.transport(A).announce("n", b"1")
        await asyncio.sleep(1)
        return len(own._items) * 100 + len(other._items) * 10 + len(closed._items)

    assert here.run({A: listen}).results[A] == 10


def test_a_big_request_shares_the_link_and_counts_as_control() -> None:
    here = world()

    async def main() -> int:
        here.transport(B).serve("echo", echo)
        here.store(C).put(BLOB)
        reading = asyncio.ensure_future(here.transport(B).read(C, digest_of(BLOB), 0, len(BLOB), timeout_s=60))
        await here.transport(A).ask(B, "echo", BLOB, timeout_s=60)
        await reading
        return here.loop.now_ns // (100 * MS)

    outcome = here.run({A: main})
    # alone for 20 ms, at half speed until 2.028 s, 20 ms of latency; then b's answer of the same size: 1.024 s and 20 ms
    assert outcome.results[A] == 30
    assert outcome.traffic[A].sent_control > len(BLOB)
    assert outcome.traffic[A].sent_blob == 0


def test_what_a_handler_raises_while_its_node_dies_is_nobodys_concern() -> None:
    here = world(A, B, faults=[Fault(at_s=1, what="leave", nodes=("b",))])

    async def clumsy(asker: NodeId, body: bytes) -> bytes:
        try:
            await forever()
        finally:
            raise ZeroDivisionError
        return b""

    async def ask() -> None:
        here.transport(B).serve("clumsy", clumsy)
        with pytest.raises(Unreachable):
            await here.transport(A).ask(B, "clumsy", b"", timeout_s=3)

    assert here.run({A: ask}).finished
