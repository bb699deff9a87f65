"""What one node of a run in lockstep came to: the same in every world that keeps the schedule, or something is broken."""

from __future__ import annotations

from typing import Protocol

import msgspec

from kuberml.core.ids import Digest, NodeId, digest_of
from kuberml.core.seam import Store
from kuberml.scenario.measure import Watch
from kuberml.worlds.simulated.links import Traffic


class NodeEnd(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be compared about one of the nodes.

    Attributes:
        trace_hash: BLAKE3 over everything that it computed and received, in order, with times and contents.
        deployed: when (virtual nanoseconds) it began to serve which predictor.
        memory: the digest of everything that it remembers, by name: its final weights among them.
        cards: digests of all cards that it keeps, sorted.
        sent_bytes, received_bytes: letters with their headers.
        flops: of its jobs.
        gave_up: why its part ended early; "": it did not.
    """

    trace_hash: Digest
    deployed: tuple[tuple[int, Digest], ...]
    memory: dict[str, Digest]
    cards: tuple[Digest, ...]
    sent_bytes: int
    received_bytes: int
    flops: int
    gave_up: str = ""


class LockstepRun(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run.

    Attributes:
        virtual_time_ns: when it ended.
        finished: everybody that was waited for had ended; False: `world.until_s` came first.
        nodes: what every node of the cast came to.
    """

    virtual_time_ns: int
    finished: bool
    nodes: dict[NodeId, NodeEnd]


class Ended(Protocol):
    """What a world can say of a node after the run."""

    def store(self, node: NodeId) -> Store:
        """The node's Store."""
        ...

    def traffic(self, node: NodeId) -> Traffic:
        """Bytes that it sent and received."""
        ...

    def flops(self, node: NodeId) -> int:
        """Of its jobs."""
        ...

    def node_hash(self, node: NodeId) -> Digest:
        """See NodeEnd."""
        ...


def node_end(node: NodeId, world: Ended, watch: Watch, gave_up: object = "") -> NodeEnd:
    """What a node came to in a world that has ended."""
    traffic, store = world.traffic(node), world.store(node)
    return NodeEnd(
        trace_hash=world.node_hash(node),
        deployed=tuple((one.time_ns, one.model) for one in watch.deployments if one.node == node),
        memory={name: digest_of(content) for name, content in sorted(store.memory().items())},
        cards=tuple(store.cards()),
        sent_bytes=traffic.sent_control + traffic.sent_blob,
        received_bytes=traffic.received_control + traffic.received_blob,
        flops=world.flops(node),
        gave_up=str(gave_up),
    )
