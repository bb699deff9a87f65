import asyncio
from functools import partial

import pytest

from kuberml.core.errors import ConfigError, InternalError
from kuberml.core.ids import NodeId
from kuberml.core.rng import rng
from kuberml.worlds.simulated.devices import Device, LinkSpec
from kuberml.worlds.simulated.faults import Fault
from kuberml.worlds.simulated.world import Outcome, Place, SimulatedWorld
from tests.worlds.simulated import jobs
from tests.worlds.simulated.little import LINK, A, B, C, world

FAULTS = [
    Fault(at_s=20, what="crash", nodes=("n2",), until_s=25),
    Fault(at_s=30, what="partition", nodes=("n0", "n1"), until_s=40),
    Fault(at_s=45, what="slow", nodes=("n4",), until_s=70),
    Fault(at_s=50, what="leave", nodes=("n5",)),
]


def gossip(seed: int) -> Outcome:
    """Six nodes that ask, announce, read and compute for two minutes, under faults: integers only."""
    places = [
        Place(
            node=NodeId(f"n{number}"),
            role="peer",
            device=Device(name="d", flops_per_s=10**6 + number),
            link=LinkSpec(up_bps=10**6 * (1 + number), down_bps=3 * 10**6, latency_ns=10**7 + number, loss_ppm=1000 * number),
        )
        for number in range(6)
    ]
    here = SimulatedWorld(places, seed=seed, faults=FAULTS)

    async def peer(node: NodeId) -> None:
        door, store, draws = here.transport(node), here.store(node), rng(seed, "peer", node)
        digest = store.put(bytes(100_000))

        async def answer(asker: NodeId, body: bytes) -> bytes:
            return digest.encode()

        door.serve("what", answer)
        door.subscribe("news")
        for _ in range(12):
            await asyncio.sleep(float(draws.integers(1, 10)))
            await here.compute(node).run(jobs.work, int(draws.integers(10**6)))
            await door.announce("news", bytes(int(draws.integers(100))))
            alive = door.alive()
            friend = alive[int(draws.integers(len(alive)))]
            try:
                await door.ask(friend, "what", b"", timeout_s=5)
                await door.read(friend, digest, 0, 100_000, timeout_s=5)
            except Exception as error:
                store.remember({"last error": str(error).encode()})

    return here.run({place.node: partial(peer, place.node) for place in places}, until_s=120)


def test_the_integer_hash_is_the_same_on_every_machine() -> None:
    assert gossip(1).integer_hash == "c0af154a67bef991195d8ce32ebd00208a0067992a7ef4be43b42d2bb07ad194"


def test_a_seed_is_a_run() -> None:
    one, again, other = gossip(1), gossip(1), gossip(2)
    assert one == again
    assert one.trace_hash != other.trace_hash


def test_no_byte_is_received_that_was_not_sent() -> None:
    traffic = gossip(3).traffic.values()
    assert sum(each.received_blob for each in traffic) <= sum(each.sent_blob for each in traffic)


def test_a_run_ends_with_those_that_are_waited_for() -> None:
    for wait_for, end_s in ((None, 9), (["peer"], 5), (["a"], 2), (["a", "hub"], 9)):
        here = world()
        delays = {A: 2, B: 5, C: 9}
        outcome = here.run({node: partial(asyncio.sleep, delay) for node, delay in delays.items()}, wait_for=wait_for)
        assert outcome.virtual_time_ns == end_s * 10**9
        assert outcome.finished


def test_a_run_ends_at_its_time() -> None:
    here = world(A)
    outcome = here.run({A: partial(asyncio.sleep, 100)}, until_s=7)
    assert (outcome.virtual_time_ns, outcome.finished, outcome.results) == (7 * 10**9, False, {})


def test_a_world_in_which_nobody_does_anything_is_over_at_once() -> None:
    assert world(A).run({}).virtual_time_ns == 0


def test_what_a_node_raises_ends_the_run_and_says_where_and_when() -> None:
    here = world(A, B)

    async def fail() -> None:
        await asyncio.sleep(2)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no") as caught:
        here.run({A: fail, B: partial(asyncio.sleep, 100)})
    assert caught.value.__notes__ == ["in node a, at 2.0 s of virtual time"]


def test_a_deadlock_names_the_node() -> None:
    here = world(A, B)

    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(InternalError, match=r"deadlock.*main of b \("):
        here.run({A: partial(asyncio.sleep, 1), B: wait})


def test_a_world_runs_once() -> None:
    here = world(A)
    here.run({})
    with pytest.raises(ConfigError, match="a world runs once"):
        here.run({})


def test_unknown_names_are_refused_with_the_nearest() -> None:
    here = world("alice", "bob")
    with pytest.raises(ConfigError, match="unknown node 'alic'; did you mean 'alice'"):
        here.run({NodeId("alic"): partial(asyncio.sleep, 1)})
    with pytest.raises(ConfigError, match="unknown node or role 'pear'; did you mean 'peer'"):
        here.run({}, wait_for=["pear"])
    with pytest.raises(ConfigError, match="two nodes are called bob"):
        world("bob", "bob")


def test_energy_is_computing_idling_and_the_radio() -> None:
    device = Device(name="phone", flops_per_s=1_000_000, watts_compute_mw=2000, watts_idle_mw=100, radio="wifi")
    here = world(A, B, devices={A: device})

    async def main() -> int:
        await here.compute(A).run(jobs.work, 3_000_000)
        silent = here.energy_mj(A)
        await here.transport(A).announce("news", bytes(10_000))
        return silent

    outcome = here.run({A: main})
    assert outcome.results[A] == 3 * 2000 + 3 * 100
    assert outcome.energy_mj[A] > outcome.results[A] + 300_000  # a session of the radio: 315 J
    assert outcome.energy_mj[B] == 3 * 500


def test_links_and_devices_are_those_of_the_place() -> None:
    here = world(A, links={A: LINK})
    assert here.transport(A).port.link is LINK
    assert here.traffic(A).total == here.flops(A) == 0
