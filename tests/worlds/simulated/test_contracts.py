from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from kuberml.core.seam import Clock, Compute
from kuberml.worlds.simulated.store import SharedBlobs, SimulatedStore
from tests.contracts.clock import ClockContract
from tests.contracts.compute import ComputeContract
from tests.contracts.store import StoreContract
from tests.contracts.transport import Main, TransportContract
from tests.worlds.simulated.little import A, B, C, world


class TestSimulatedClock(ClockContract):
    def run(self, main: Callable[[Clock], Awaitable[Any]]) -> Any:
        here = world(A)
        return here.run({A: partial(_awaited, main(here.clock(A)))}).results[A]


class TestSimulatedTransport(TransportContract):
    def run(self, *mains: Main) -> list[Any]:
        here = world()
        nodes = (A, B, C)[: len(mains)]
        started = {node: partial(main, here.transport(node), here.store(node)) for node, main in zip(nodes, mains, strict=True)}
        results = here.run(started).results
        return [results[node] for node in nodes]


class TestSimulatedCompute(ComputeContract):
    workers = 1

    def run(self, main: Callable[[Compute], Awaitable[Any]]) -> Any:
        here = world(A, workers=self.workers)
        return here.run({A: partial(_awaited, main(here.compute(A)))}).results[A]


class TestSimulatedComputeOnWorkers(TestSimulatedCompute):
    workers = 2


class TestSimulatedStore(StoreContract):
    def make(self, tmp_path: Path) -> SimulatedStore:
        return SimulatedStore()


class TestSharedStore(StoreContract):
    """Another node that holds the same blobs changes nothing."""

    def make(self, tmp_path: Path) -> SimulatedStore:
        blobs = SharedBlobs()
        other = SimulatedStore(blobs)
        for content in (b"twice", b"blob", b"\0" * 3):
            other.put(content)
        return SimulatedStore(blobs)


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
