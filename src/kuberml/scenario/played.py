"""What a summary needs of a run that has ended, in whichever world it was played."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Protocol

from kuberml.core.ids import NodeId
from kuberml.core.seam import Store
from kuberml.scenario.config import Config
from kuberml.scenario.measure import Watch
from kuberml.scenario.notes import Notes
from kuberml.scenario.public_things import PublicThings
from kuberml.scenario.stage import Actor, Stage
from kuberml.worlds.simulated.links import Traffic


class Stores(Protocol):
    """Each node's store, as it was at the end."""

    def store(self, node: NodeId) -> Store:
        """The node's Store."""
        ...


class Played(Protocol):
    """One paradigm under one seed.

    Attributes:
        stage, cast: who there was; `things`: what was public.
        watch: who served what when; `notes`: what nodes recorded.
        world: their stores.
    """

    config: Config
    label: str
    seed: int
    things: PublicThings
    paradigm: ModuleType
    stage: Stage
    cast: Mapping[NodeId, tuple[str, Actor]]
    watch: Watch
    notes: Notes

    @property
    def world(self) -> Stores:
        """Where the stores are."""
        ...

    def moved_bytes(self) -> int:
        """Bytes that were sent, each counted once."""
        ...


class Ended(Protocol):
    """What the world says of the run. Nanoseconds, millijoules."""

    @property
    def virtual_time_ns(self) -> int:
        """When it ended; in a live run on the clock, from its beginning."""
        ...

    @property
    def trace_hash(self) -> str:
        """See `worlds.simulated`; "" where a run cannot be repeated."""
        ...

    @property
    def integer_hash(self) -> str:
        """See `worlds.simulated`; "" where a run cannot be repeated."""
        ...

    @property
    def traffic(self) -> Mapping[NodeId, Traffic]:
        """Bytes of each node."""
        ...

    @property
    def energy_mj(self) -> Mapping[NodeId, int]:
        """Of each node."""
        ...

    @property
    def flops(self) -> Mapping[NodeId, int]:
        """Of each node's jobs."""
        ...
