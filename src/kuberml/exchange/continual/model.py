"""The sums and the head of what is served, and of any other set of packets that are at hand."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from kuberml.core.errors import InternalError, RemoteError
from kuberml.core.ids import Digest
from kuberml.core.values import loads
from kuberml.exchange.continual.fair import Judged, judged
from kuberml.exchange.continual.history import History, State
from kuberml.exchange.continual.intake import Intake
from kuberml.exchange.continual.trying import Part, Sight, Tried, tried
from kuberml.exchange.node import Node
from kuberml.knowledge.moments import Statistics
from kuberml.knowledge.ridge import Head

SAVE_EVERY = 16
"""Versions between two times that the integers are written down; what came since is added again at a start."""

NOTHING: Mapping[Digest, Statistics] = {}


class Model:
    """A cloud's present sums and head."""

    def __init__(self, node: Node, history: History, intake: Intake) -> None:
        self._node, self._history, self._intake = node, history, intake
        self.sight: Sight | None = None
        self.contents: frozenset[Digest] = frozenset()
        self.sums: Statistics | None = None
        self.head: Head | None = None
        self.fair: Head | None = None
        """The balanced head of the sums, on which the gate judges; None: not asked for since they changed."""

    async def open(self) -> None:
        """As the history says it was.

        Raises:
            InternalError: packets are gone from the store, or do not come to the integers that were served.
        """
        state = self._history.state
        self.contents, self.sums = self._saved(state)
        found = await self.of(state.made_of.contents, ridge=state.ridge)
        if found.digest != state.sums:  # what was saved is damaged: from the packets, which carry their digests
            self.contents, self.sums = frozenset(), None
            found = await self.of(state.made_of.contents, ridge=state.ridge)
        if found.digest != state.sums:
            raise InternalError(f"the packets come to the integers {found.digest[:12]}, served were {state.sums[:12]}")
        self.adopt(state.made_of.contents, found)

    async def of(
        self, contents: Collection[Digest], arrived: Mapping[Digest, Statistics] = NOTHING, *, ridge: float | None = None
    ) -> Tried:
        """The model of a set.

        Args:
            contents: the set.
            arrived: packets that are not in the store's books yet.
            ridge: None chooses it.

        Raises:
            ConfigError: the packets do not add up.
            InternalError: one is not in the store any more.
        """
        wanted = frozenset(contents)
        anew = len(wanted) < len(self.contents - wanted) or not wanted & self.contents
        have = frozenset() if anew else self.contents
        add = [self._packet(content, arrived) for content in sorted(wanted - have)]
        drop = [self._packet(content, arrived) for content in sorted(have - wanted)]
        total = None if anew else self.sums
        found: Tried = await self._node.compute(tried, self._intake.dims + 1, total, add, drop, ridge, self.sight)
        return found

    async def judge(self, found: Tried) -> Judged:
        """What a candidate would change."""
        before = await self.fairly() if self.sums is not None else None
        result: Judged = await self._node.compute(judged, found.sums, found.head.ridge, before, self.sight)
        return result

    async def fairly(self) -> Head:
        """The balanced head of what is served."""
        assert self.sums is not None, "something is served"
        assert self.head is not None, "and so it has a head"
        if self.fair is None:
            self.fair = (await self._node.compute(judged, self.sums, self.head.ridge, None, None)).fair
        return self.fair

    def present(self) -> Tried:
        """What is served, as a candidate that changes no sums."""
        assert self.sums is not None, "something is served"
        assert self.head is not None, "and so it has a head"
        none = np.zeros(0, np.int64)
        return Tried(self.sums, self._history.state.sums, self.head, none, none)

    def adopt(self, contents: Collection[Digest], found: Tried, fair: Head | None = None) -> None:
        """From now on this is what is served."""
        self.contents, self.sums, self.head, self.fair = frozenset(contents), found.sums, found.head, fair

    def _packet(self, content: Digest, arrived: Mapping[Digest, Statistics]) -> Part:
        if content in arrived:
            return arrived[content]
        try:
            return self._intake.sealed(self._history.packet(content).card)
        except (KeyError, RemoteError) as error:
            raise InternalError(f"packet {content[:12]} is not in the store any more: {error}") from error

    def _saved(self, state: State) -> tuple[frozenset[Digest], Statistics | None]:
        if not state.saved:
            return frozenset(), None
        try:
            sums = loads(self._node.place.store.get(state.blob))
        except (KeyError, InternalError):
            return frozenset(), None
        return (self._history.contents(state.saved), sums) if isinstance(sums, Statistics) else (frozenset(), None)
