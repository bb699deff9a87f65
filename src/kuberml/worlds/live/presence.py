"""Who is here: tokens of presence as they come and go, each believed only from the key that its name belongs to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kuberml.core.errors import RemoteError
from kuberml.core.ids import NodeId
from kuberml.worlds.live.names import Presence, read_here

MAX_NODES = 100_000
"""Beyond so many, newcomers are not noticed."""


MAX_EPOCHS = 8
"""Tokens under one name: a process that restarts may be seen twice, and others may claim its name."""


class Gathering:
    """The nodes that are present now, as one of them knows."""

    def __init__(self, own: NodeId, believes: Callable[[NodeId, str], bool]) -> None:
        self._own, self._believes = own, believes
        self._here: dict[NodeId, dict[str, Presence]] = {}  # by epoch
        self._last: dict[NodeId, Presence] = {}
        self._changed = asyncio.Event()
        self.on_arrival: Callable[[Presence], None] = lambda presence: None

    def saw(self, key: str, is_there: bool) -> None:
        """A token appeared or went."""
        try:
            presence = read_here(key)
        except RemoteError:
            return
        epochs = self._here.get(presence.node, {})
        if not is_there:
            epochs.pop(presence.epoch, None)
            if not epochs:
                self._here.pop(presence.node, None)
        elif len(self._here) < MAX_NODES:
            epochs.pop(presence.epoch, None)
            if len(epochs) >= MAX_EPOCHS:
                del epochs[next((epoch for epoch, one in epochs.items() if not self._is_believed(one)), next(iter(epochs)))]
            self._here.setdefault(presence.node, epochs)[presence.epoch] = presence
            if self._is_believed(presence):
                self._last[presence.node] = presence
                self.on_arrival(presence)
        waiting, self._changed = self._changed, asyncio.Event()
        waiting.set()

    def find(self, node: NodeId) -> Presence | None:
        """The newest token of a node that is here, of those that are believed as of now: a roll may have changed."""
        return next((one for one in reversed(self._here.get(node, {}).values()) if self._is_believed(one)), None)

    def remembered(self, node: NodeId) -> Presence | None:
        """The newest token of a node that is or was here."""
        last = self._last.get(node)
        return self.find(node) or (last if last is not None and self._is_believed(last) else None)

    async def wait_for(self, node: NodeId, timeout_s: float) -> Presence | None:
        """The node's token once it is here; None: not within timeout_s."""
        try:
            async with asyncio.timeout(timeout_s):
                while (found := self.find(node)) is None:
                    await self._changed.wait()
        except TimeoutError:
            return None
        return found

    def alive(self, role: str | None) -> tuple[NodeId, ...]:
        """Who is here, sorted, without oneself; of one role or of all."""
        found = (self.find(node) for node in self._here if node != self._own)
        return tuple(sorted(one.node for one in found if one is not None and role in (None, one.role)))

    def _is_believed(self, presence: Presence) -> bool:
        return self._believes(presence.node, presence.key)
