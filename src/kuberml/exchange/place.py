"""Where a node stands: its own data, its keys, its neighbours, and the four interfaces of the world it lives in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from kuberml.core.errors import Unreachable
from kuberml.core.ids import Digest, LabelId, NodeId
from kuberml.core.seam import Clock, Compute, Recorder, Store, Transport
from kuberml.core.values import value
from kuberml.knowledge.card import Card
from kuberml.knowledge.signing import Keys
from kuberml.learning.learner import Learner
from kuberml.learning.types import DataRef

if TYPE_CHECKING:
    from kuberml.exchange.delivery.progress import Watch


class OverBudget(Unreachable):
    """The bytes that this node may receive are spent: asking elsewhere does not help."""


@value
class LocalData(msgspec.Struct, frozen=True):
    """What a learner has of its own: what it trains on, and what it keeps back to try knowledge on."""

    train: DataRef
    heldout: DataRef
    counts: dict[LabelId, int]  # training samples of each label that it has

    @property
    def labels(self) -> tuple[LabelId, ...]:
        """Labels that it has samples of, sorted."""
        return tuple(sorted(self.counts))


Beside = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Does a piece of work on a thread beside the loop, as `asyncio.to_thread`."""

Secrets = Callable[[str, int, int], bytes]
"""Bytes that nobody else can foresee: (what for, which time, how many) -> bytes. Only simulated nodes' follow from a seed."""


@dataclass(frozen=True, slots=True)
class Stage:
    """New data of a learner that come at a time.

    Attributes:
        at_s: seconds after the node began its part for the first time.
        data: what is new.
    """

    at_s: float
    data: LocalData


class Observer(Protocol):
    """Looks on without taking part: what it does costs the world no time and no bytes."""

    def deployed(self, node: NodeId, model: Digest, predictor: Any, learned_at_ms: tuple[int, ...]) -> None:
        """`node` serves this predictor from now on. `model`: its digest; the times: when what is new in it was learned."""
        ...


@dataclass(frozen=True, kw_only=True)
class Place:
    """What the world gives a node to stand on: the seam's four interfaces, and who it is there."""

    clock: Clock
    transport: Transport
    compute: Compute
    store: Store
    recorder: Recorder
    role: str
    task: str
    keys: Keys
    seed: int
    shape: tuple[int, ...] = ()  # of one sample of the task
    hub: NodeId | None = None
    publisher: str = ""  # public key whose extractor and probe are this federation's; "": the first that is offered
    neighbours: tuple[NodeId, ...] = ()
    learner: Learner | None = None
    data: LocalData | None = None
    stages: tuple[Stage, ...] = ()  # in the order of their times; with stages, data come by them, and `data` is None
    budget_bytes: int | None = None
    purpose: str = ""
    licences: tuple[str, ...] = ()  # those that are accepted here; () = any
    region: str = ""
    observer: Observer | None = None
    secrets: Secrets | None = None  # None: from the operating system
    charge_mj: Callable[[], int | None] = lambda: None  # what is left in the battery; None: on mains, or nobody can say
    beside: Beside | None = None  # where packages are opened, which takes seconds for large ones; None: at once
    watch: Callable[[Card], Watch] | None = None  # who looks on while a package is on its way
    mixing: dict[NodeId, float] = field(default_factory=dict)  # weight of each neighbour in a gossip average
