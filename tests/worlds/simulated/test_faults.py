import asyncio

import pytest

from kuberml.core.errors import ConfigError, InternalError
from kuberml.core.ids import NodeId
from kuberml.ledger.ledger import Ledger
from kuberml.worlds.simulated.devices import Device
from kuberml.worlds.simulated.faults import Fault
from kuberml.worlds.simulated.store import SharedBlobs, SimulatedStore
from kuberml.worlds.simulated.world import SimulatedWorld
from tests.worlds.simulated import jobs
from tests.worlds.simulated.little import A, B, world

S = 10**9


async def count_seconds(here: SimulatedWorld, node: NodeId, until: int) -> list[int]:
    """One committed step a second; goes on where memory says."""
    starts = [*here.store(node).memory().get("starts", b""), here.loop.now_ns // S]
    here.store(node).remember({"starts": bytes(starts)})
    while (done := len(here.store(node).memory().get("steps", b""))) < until:
        await asyncio.sleep(1)
        here.store(node).remember({"steps": bytes(done + 1)})
    return starts


@pytest.mark.parametrize(
    ("faults", "starts", "end_s"),
    [
        ([], [0], 5),
        ([Fault(at_s=2.5, what="crash", nodes=("a",))], [0, 2], 5.5),
        ([Fault(at_s=2.5, what="crash", nodes=("a",), until_s=10)], [0, 10], 13),
        ([Fault(at_s=2.5, what="leave", nodes=("a",), until_s=10)], [0, 10], 13),
        ([Fault(at_s=7, what="join", nodes=("a",))], [7], 12),
        (
            [
                Fault(at_s=1.5, what="leave", nodes=("a",), until_s=8),
                Fault(at_s=4, what="crash", nodes=("a",), until_s=6),
                Fault(at_s=7, what="leave", nodes=("a",), until_s=20),
            ],
            [0, 20],
            24,
        ),
        ([Fault(at_s=0, what="crash", nodes=("a",))], [0, 0], 5),
    ],
    ids=["none", "crash", "long crash", "leave", "join", "overlapping", "at once"],
)
def test_a_node_goes_on_from_its_memory(faults: list[Fault], starts: list[int], end_s: float) -> None:
    here = world(A, B, faults=faults)
    outcome = here.run({A: lambda: count_seconds(here, A, 5)})
    assert outcome.results[A] == starts
    assert outcome.virtual_time_ns == end_s * S
    assert outcome.finished


def test_what_dies_cannot_write_and_what_it_raises_is_nobodys_concern() -> None:
    here = world(A, faults=[Fault(at_s=1, what="crash", nodes=("a",), until_s=3)])
    refused: list[str] = []

    async def loose() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            raise KeyError("nobody awaits this one")

    async def main() -> dict[str, bytes]:
        asyncio.get_running_loop().create_task(loose())
        if (memory := here.store(A).memory()).get("life") == b"1":
            return memory
        here.store(A).remember({"life": b"1"})
        try:
            await asyncio.sleep(100)
        finally:
            with pytest.raises(OSError, match="the node is down") as caught:
                here.store(A).remember({"life": b"2"})
            refused.append(str(caught.value))
            raise ValueError("too late")
        return {}

    assert here.run({A: main}).results[A] == {"life": b"1"}
    assert len(refused) == 1


def test_a_crash_takes_all_tasks_of_the_node_and_no_other() -> None:
    here = world(A, B, faults=[Fault(at_s=1, what="leave", nodes=("a",))])
    cancelled: list[str] = []

    async def stay(name: str) -> None:
        try:
            await asyncio.sleep(2)
        except asyncio.CancelledError:
            cancelled.append(name)
            raise

    async def main(name: str) -> None:
        loose = asyncio.get_running_loop().create_task(stay(f"loose {name}"))
        async with asyncio.TaskGroup() as group:
            group.create_task(stay(f"child of {name}"))
            await stay(name)
        await loose

    outcome = here.run({A: lambda: main("a"), B: lambda: main("b")})
    assert sorted(cancelled) == ["a", "child of a", "loose a"]
    assert set(outcome.results) == {B}
    assert outcome.finished


def test_a_node_comes_back_when_its_old_tasks_have_ended() -> None:
    here = world(A, faults=[Fault(at_s=1, what="crash", nodes=("a",))])
    starts: list[float] = []

    async def main() -> None:
        starts.append(here.loop.time())
        try:
            await asyncio.sleep(5)
        finally:
            await asyncio.sleep(2)

    here.run({A: main})
    assert starts == [0, 3]


def test_a_full_disk_refuses_writes_for_a_while() -> None:
    here = world(A, faults=[Fault(at_s=1, what="disk_full", nodes=("a",), until_s=3)])

    async def main() -> list[bool]:
        written = []
        for _ in range(3):
            try:
                here.store(A).put(b"blob %d" % len(written))
                here.store(A).remember({"x": b"y"})
                written.append(True)
            except OSError as error:
                written.append("no space left" not in str(error))
            await asyncio.sleep(1.5)
        return written

    assert here.run({A: main}).results[A] == [True, False, True]


def test_slow_links_multiply_and_end() -> None:
    slow = [Fault(at_s=1, what="slow", nodes=("a",), until_s=4, factor=2), Fault(at_s=2, what="slow", nodes=("a",), until_s=3)]
    here = world(A, faults=slow)

    async def main() -> list[int]:
        rates = []
        for _ in range(5):
            rates.append(here.transport(A).port.up_bps)
            await asyncio.sleep(0.999 if not rates[1:] else 1.001)
        return rates

    assert here.run({A: main}).results[A] == [8_000_000, 8_000_000, 400_000, 4_000_000, 8_000_000]


def test_faults_are_in_the_trace_and_told_to_the_recorder() -> None:
    faults = [
        Fault(at_s=1, what="crash", nodes=("a",), until_s=2),
        Fault(at_s=3, what="partition", nodes=("b",), until_s=4),
        Fault(at_s=5, what="slow", nodes=("b",)),
    ]
    ledger = Ledger()
    here, quiet = world(A, B, faults=faults, recorder=ledger.recorder), world(A, B)
    hashes = {run.run({A: lambda: asyncio.sleep(10)}).integer_hash for run in (here, quiet)}
    told = [(event.time_ns // S, event.node, event.event) for event in ledger.events()]
    ledger.close()
    assert told == [(1, "a", "down"), (2, "a", "up"), (3, "b", "cut"), (4, "b", "healed"), (5, "b", "slow")]
    assert len(hashes) == 2


def test_an_empty_battery_ends_a_node_for_good() -> None:
    device = Device(name="phone", flops_per_s=1_000_000, watts_compute_mw=1000, battery_mj=5500)
    here = world(A, B, devices={A: device})

    async def main() -> None:
        while True:
            await here.compute(A).run(jobs.work, 1_000_000)

    outcome = here.run({A: main})
    assert outcome.finished
    assert outcome.virtual_time_ns == 6 * S
    assert here.transport(B).alive() == ()


def test_idling_empties_a_battery_too() -> None:
    device = Device(name="phone", flops_per_s=1, watts_idle_mw=100, battery_mj=1000)
    here = world(A, devices={A: device})
    outcome = here.run({A: lambda: asyncio.sleep(100)})
    assert outcome.virtual_time_ns == pytest.approx(10 * S, abs=5 * S // 1000)
    assert outcome.results == {}


def test_a_corrupt_disk_is_found_out_and_the_blob_is_dropped() -> None:
    blobs = SharedBlobs()
    sick, healthy = SimulatedStore(blobs), SimulatedStore(blobs)
    digest = sick.put(b"content")
    healthy.put(b"content")
    sick.corrupt(digest)
    assert sick.read(digest, 0, 7) == b"con\x8bent"
    with pytest.raises(InternalError, match="other bytes"):
        sick.get(digest)
    assert sick.size_bytes(digest) is None
    assert healthy.get(digest) == b"content"
    healthy.delete(digest)
    assert len(blobs) == 0


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(at_s=1, what="crsh", nodes=("a",)), r"fault 0: unknown what 'crsh'; did you mean 'crash'\?"),
        (Fault(at_s=1, what="crash", nodes=()), "fault 0: nodes is empty"),
        (Fault(at_s=1, what="crash", nodes=("aa",)), "fault 0: unknown node 'aa'"),
        (Fault(at_s=1, what="partition", nodes=("a",), others=("z",)), "fault 0: unknown node 'z'"),
        (Fault(at_s=2, what="crash", nodes=("a",), until_s=2), r"fault 0: until_s = 2 must be after at_s = 2"),
        (Fault(at_s=-1, what="crash", nodes=("a",)), "a time must be"),
        (Fault(at_s=1, what="slow", nodes=("a",), factor=0), "fault 0: factor must be at least 1, not 0"),
    ],
)
def test_a_fault_that_cannot_be_is_refused(fault: Fault, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        world(A, faults=[fault])
