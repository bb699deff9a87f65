import asyncio
from functools import partial
from typing import Any

import msgspec
import pytest

from kuberml.core.errors import ConfigError
from kuberml.core.ids import NodeId
from kuberml.worlds.simulated.devices import LinkSpec
from kuberml.worlds.simulated.faults import Fault
from kuberml.worlds.simulated.lockstep_letters import Letter, write
from kuberml.worlds.simulated.lockstep_loop import STEP_NS, LockstepLoop
from kuberml.worlds.simulated.world import SimulatedWorld
from tests.contracts.transport import Main, TransportContract
from tests.worlds.simulated import jobs
from tests.worlds.simulated.little import DEVICE, A, B, C, world

STEP_S = STEP_NS / 10**9


def lockstep(*nodes: str, **options: Any) -> SimulatedWorld:
    return world(*nodes, schedule="lockstep", **options)


class TestLockstepTransport(TransportContract):
    def run(self, *mains: Main) -> list[Any]:
        here = lockstep()
        nodes = (A, B, C)[: len(mains)]
        started = {node: partial(main, here.transport(node), here.store(node)) for node, main in zip(nodes, mains, strict=True)}
        results = here.run(started).results
        return [results[node] for node in nodes]


async def echo(asker: NodeId, body: bytes) -> bytes:
    return body


@pytest.mark.parametrize("size_bytes", [1, 200_000])
def test_a_message_of_any_size_takes_until_the_next_step_begins(size_bytes: int) -> None:
    here = lockstep(A, B)

    async def ask() -> int:
        here.transport(B).serve("echo", echo)
        await asyncio.sleep(3.4 * STEP_S)
        await here.transport(A).ask(B, "echo", b"x" * size_bytes, timeout_s=1)
        return here.loop.now_ns

    assert here.run({A: ask}).results[A] == 5 * STEP_NS, "there at step 4, back at step 5"


def test_messages_come_by_sender_then_in_the_order_in_which_they_were_sent_and_before_timers() -> None:
    here = lockstep("z", A, C, B)
    heard: list[tuple[str, bytes]] = []

    async def listen() -> None:
        inbox = here.transport(NodeId("z")).subscribe("news")
        timer = asyncio.get_running_loop().call_at(2 * STEP_S, lambda: heard.append(("timer", b"")))
        async for author, body in inbox:
            heard.append((author, body))
        timer.cancel()

    async def speak(node: NodeId, at_s: float) -> None:
        await asyncio.sleep(STEP_S + at_s)
        for body in (b"2", b"1"):
            await here.transport(node).announce("news", body)
        await asyncio.sleep(2 * STEP_S)

    # c speaks first, then b, then a: nobody's clock or place in the cast shows in the inbox
    mains = {C: partial(speak, C, 0.001), B: partial(speak, B, 0.002), A: partial(speak, A, 0.003)}
    here.run({NodeId("z"): listen, **mains}, wait_for=[A, B, C])
    assert heard == [("a", b"2"), ("a", b"1"), ("b", b"2"), ("b", b"1"), ("c", b"2"), ("c", b"1"), ("timer", b"")]


def test_links_do_not_matter_and_bytes_are_counted_as_they_are_written() -> None:
    slow = LinkSpec(up_bps=8, down_bps=8, latency_ns=10**12, loss_ppm=900_000)
    here = lockstep(A, B, links={A: slow, B: slow})

    async def ask() -> int:
        here.transport(B).serve("echo", echo)
        await here.transport(A).ask(B, "echo", b"x" * 932, timeout_s=1)
        return here.loop.now_ns

    outcome = here.run({A: ask})
    assert outcome.results[A] == 2 * STEP_NS
    question = 64 + len(write(Letter(A, 1, "ask", 1, "echo", body=b"x" * 932)))
    assert outcome.traffic[A].sent_control == outcome.traffic[B].received_control == question


def test_the_run_ends_at_the_end_of_a_step_whoever_ends_first() -> None:
    here = lockstep(A, B)
    seen: list[int] = []

    async def later() -> None:
        await asyncio.sleep(STEP_S / 2)
        seen.append(here.loop.now_ns)
        await asyncio.sleep(STEP_S)
        seen.append(here.loop.now_ns)

    outcome = here.run({A: partial(asyncio.sleep, STEP_S / 4), B: later}, wait_for=[A])
    assert outcome.finished
    assert outcome.virtual_time_ns == STEP_NS
    assert seen == [STEP_NS // 2], "within the last step everybody's timers still fire; nothing of the next one"


def test_the_end_of_time_comes_at_the_end_of_its_step() -> None:
    here = lockstep(A)
    outcome = here.run({A: partial(asyncio.sleep, 60)}, until_s=2.5 * STEP_S)
    assert not outcome.finished
    assert outcome.virtual_time_ns == 3 * STEP_NS


def test_a_battery_never_runs_empty_and_a_fault_is_refused() -> None:
    flat = msgspec.structs.replace(DEVICE, battery_mj=1)
    assert lockstep(A, devices={A: flat}).run({A: partial(asyncio.sleep, 10**6)}).finished
    with pytest.raises(ConfigError, match="have no place in schedule 'lockstep'"):
        lockstep(A, faults=[Fault(at_s=1, what="leave", nodes=(A,))])
    with pytest.raises(ConfigError, match="step_ns = 0"):
        LockstepLoop(0)


def test_tasks_in_sets_have_the_places_that_they_would_have_without_other_nodes() -> None:
    """asyncio keeps tasks in sets; their order there must not depend on what other nodes of the loop do."""

    async def places(here: SimulatedWorld, node: NodeId) -> list[int]:
        tasks = [asyncio.ensure_future(asyncio.sleep(0)) for _ in range(3)]
        await asyncio.gather(*tasks)
        return [hash(task) for task in tasks]

    alone, together = lockstep(B), lockstep(A, B)
    first = alone.run({B: partial(places, alone, B)}).results[B]
    assert together.run({node: partial(places, together, node) for node in (A, B)}).results[B] == first


def node_hashes(workers: int = 1, flops: int = 1000) -> list[str]:
    here = lockstep(A, B, workers=workers)

    async def main(node: NodeId) -> bytes:
        here.transport(node).serve("echo", echo)
        done = await here.compute(node).run(jobs.work, flops if node == A else 2000)
        return await here.transport(node).ask(B if node == A else A, "echo", b"%d" % done, timeout_s=10)

    here.run({node: partial(main, node) for node in (A, B)})
    return [here.node_hash(node) for node in (A, B)]


def test_each_nodes_trace_is_the_same_for_any_number_of_workers_and_shows_what_it_saw() -> None:
    ours = node_hashes()
    assert node_hashes(workers=2) == ours
    assert not set(node_hashes(flops=1001)) & set(ours), "a computed something else, and b was asked something else"
    with pytest.raises(ConfigError, match="schedule 'free'"):
        world(A).node_hash(A)
