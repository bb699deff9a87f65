"""What a step is, and the client's half of a chain of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from kuberml.core.ids import NodeId
from kuberml.exchange.node import Node
from kuberml.exchange.steps.update import Update

Updates = dict[NodeId, Update]
"""Of a round, by who sent them, in the order of the cohort. What a step makes of several has the name of the first."""


class Step:
    """One step with its two halves; this one does nothing. A half holds no state: what must last is in the node's memory."""

    async def send(self, node: Node, number: int, update: Update) -> Update:
        """The client's half: on an update that it is about to hand in; the same number comes again after a crash."""
        return update

    async def agree(self, node: Node, number: int, cohort: Sequence[NodeId]) -> Sequence[NodeId]:
        """The server's, before a round: agree with the cohort on what both need. Who is still in it."""
        return cohort

    async def open(self, node: Node, update: Update) -> Update:
        """The server's, on each update as it comes."""
        return update

    async def combine(self, node: Node, number: int, updates: Updates) -> Updates:
        """The server's, on a round's: fewer of them, or one; {}: the round is lost."""
        return updates

    def remembers(self) -> Mapping[str, Any]:
        """What the server commits together with the round that `combine` was last about."""
        return {}


class Serving(Protocol):
    """A step that talks to the clients has something to serve there."""

    def serve(self, node: Node) -> None:
        """Answer the server from now on."""
        ...
