"""What a node is without the others: who it is, its data and memory, time, chance, and the work on its own device."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, TypeVar

import numpy as np

from kuberml.core.ids import NodeId
from kuberml.core.jobs import check_job
from kuberml.core.rng import rng, seed_of
from kuberml.core.values import digest
from kuberml.exchange.arrivals import Arrivals
from kuberml.exchange.memory import Memory
from kuberml.exchange.place import LocalData, Place, Stage
from kuberml.exchange.talk import Talk
from kuberml.knowledge.card import SignedCard
from kuberml.learning.learner import Learner

T = TypeVar("T")
MS = 1_000_000
"""Nanoseconds in a millisecond."""


class Oneself:
    """The part of a `Node` that asks nobody."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.id, self.role, self.task = place.transport.node, place.role, place.task
        self.clock, self.neighbours, self.mixing = place.clock, place.neighbours, place.mixing
        self.memory = Memory(place.store)
        self._arrivals = Arrivals(place, self.memory)
        self._talk = Talk(place, self.memory)
        self._done = asyncio.Event()

    @property
    def learner(self) -> Learner:
        """What trains here (the state is in `memory`)."""
        assert self.place.learner is not None, f"node {self.id} has no learner"
        return self.place.learner

    @property
    def data(self) -> LocalData:
        """This node's private data, by reference: what has arrived by now."""
        data = self._arrivals.data
        assert data is not None, f"node {self.id} has no data"
        return data

    @property
    def stages_so_far(self) -> tuple[Stage, ...]:
        """The stages in which this node's data have come by now; one, the whole, where they were there from the beginning."""
        return self._arrivals.so_far

    def arriving(self) -> AsyncIterator[Stage]:
        """Every stage of this node's data, from the first on: at once if it is past (also when restarted), else in time."""
        return self._arrivals.each()

    @property
    def author(self) -> str:
        """This node's public key."""
        return self.place.keys.public

    @property
    def now_ms(self) -> int:
        """The clock in milliseconds, as cards write it."""
        return self.clock.now_ns() // MS

    @property
    def left_bytes(self) -> int | None:
        """Bytes that this node may still receive; None: no limit."""
        return self._talk.left_bytes

    @property
    def received_bytes(self) -> int:
        """Bytes received so far: blobs, cards, answers, requests."""
        return self._talk.received_bytes

    def rng(self, purpose: str, k: int = 0) -> np.random.Generator:
        """This node's k-th stream for a purpose."""
        return rng(self.place.seed, "node", self.id, purpose, k)

    def seed(self, purpose: str, k: int = 0) -> int:
        """The same as an integer, for jobs."""
        return seed_of(self.place.seed, "node", self.id, purpose, k)

    def secret(self, purpose: str, k: int = 0, size_bytes: int = 32) -> bytes:
        """Bytes for keys, masks and noise that must not be guessed; `rng` follows from a seed that may be known to all.

        They are the operating system's, and other ones each time; of a simulated node they follow from its seed.
        """
        drawn = self.place.secrets
        return os.urandom(size_bytes) if drawn is None else drawn(purpose, k, size_bytes)

    def peers(self, role: str) -> tuple[NodeId, ...]:
        """Nodes of a role that are present, sorted, without this one."""
        return self.place.transport.alive(role)

    def record(self, event: str, **fields: Any) -> None:
        """Take down that something happened here."""
        self.place.recorder.record(event, **fields)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self.clock.sleep(seconds)

    async def compute(self, function: Callable[..., Any], *values: Any) -> Any:
        """Run a job (see `core.jobs`) on this node's device. Its inputs are frozen now.

        Memory may change while it runs: apply the result to the memory as it is then.
        """
        job, started_ns = check_job(function), self.clock.now_ns()
        result = await self.place.compute.run(job, *values)
        self.record("job", function=job.job_name, started_ns=started_ns, ended_ns=self.clock.now_ns())
        return result

    async def beside(self, work: Callable[[], T]) -> T:
        """Do something that takes long but is no job, such as opening a large package: beside the loop where time is real."""
        beside = self.place.beside
        return work() if beside is None else await beside(work)

    def deploy(self, predictor: Any, learned: Iterable[SignedCard] = ()) -> None:
        """Serve this predictor from now on; `learned` are the cards whose knowledge is new in it."""
        cards = list(learned)
        learned_at_ms = tuple(signed.card.learned_at_ms for signed in cards)
        model = digest(predictor)
        self.record("deployed", model=model, sources=[s.digest for s in cards], learned_at_ms=list(learned_at_ms))
        if self.place.observer is not None:
            self.place.observer.deployed(self.id, model, predictor, learned_at_ms)

    @property
    def done(self) -> bool:
        """Whether the world has asked this node to end."""
        return self._done.is_set()

    async def until_done(self) -> None:
        """Stay and serve until the world asks this node to end."""
        await self._done.wait()

    def end(self) -> None:
        """The world asks this node to end (called by the world)."""
        self._done.set()
