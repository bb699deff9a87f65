"""A shared folder as the place where a member meets others (see `worlds.member.meeting`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kuberml.core.ids import NodeId
from kuberml.exchange.delivery.progress import Watch
from kuberml.knowledge.card import Card
from kuberml.knowledge.want import Offer
from kuberml.worlds.folder.compute import HereCompute
from kuberml.worlds.folder.world import HUB, FolderWorld
from kuberml.worlds.member.telling import telling


class FolderMeeting:
    """One member's stay in a folder."""

    hub = HUB

    def __init__(self, path: Path, node: NodeId, author: str, role: str) -> None:
        """Enter the folder at `path`, made if it is not there.

        Raises:
            ConfigError: the name belongs to another key, or the path cannot be used.
        """
        self._world = world = FolderWorld(path)
        try:
            self.clock, self.compute = world.clock, HereCompute()
            self.transport, self.store = world.enter(node, role, author)
            self.recorder = telling(world.ledger.recorder(node, world.clock.now_ns), node)
            self.watch: Callable[[Card], Watch] | None = None
        except BaseException:
            world.close()
            raise

    async def handed_over(self, offer: Offer, keep: int) -> None:
        """Nothing is left to do: what is written in the folder is there for all."""

    async def close(self) -> None:
        """See `Meeting`."""
        self._world.close()
