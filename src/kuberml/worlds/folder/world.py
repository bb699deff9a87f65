"""The folder and what lives in it: a vault, a catalog, a notice board, a ledger; and a hub in every process that opens it.

    blobs/ sessions/ index.sqlite     the vault, as `kuberml show`, `find` and `verify` read it
    catalog.sqlite                    cards by need, and who holds them
    notices.sqlite                    members, announcements, verdicts
    withdrawn.sqlite                  what authors took back
    ledger.sqlite                     what happened

Hubs keep their verdict board in memory, so verdicts are notices too: each process hears those of all others before its hub
answers. SQLite's files need one machine (a network file system does not keep their promises): between machines it takes a
live world.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from kuberml.core.errors import ConfigError, KuberError
from kuberml.core.ids import NodeId
from kuberml.exchange.hub import Hub
from kuberml.exchange.withdrawn import Withdrawals
from kuberml.ledger.ledger import Ledger
from kuberml.vault.catalog import Catalog
from kuberml.worlds.folder.clock import SystemClock
from kuberml.worlds.folder.notices import Notices
from kuberml.worlds.folder.store import MemberStore
from kuberml.worlds.folder.transport import Doors, FolderTransport

HUB = NodeId("hub")
_VERDICTS = "verdicts"
VERDICTS_KEPT = 65_536
"""About 500 bytes each; who opens the folder reads them all."""


class FolderWorld:
    """One process's view of a shared folder."""

    def __init__(self, path: Path | str) -> None:
        """Open or make the folder.

        Raises:
            ConfigError: the path is a file, cannot be written, or holds something else.
        """
        self.path = Path(path)
        self.clock = SystemClock()
        self._stores: list[MemberStore] = []
        self._entered: list[NodeId] = []
        with contextlib.ExitStack() as opening:
            store = self._store(HUB)
            opening.callback(store.close)
            self._notices = Notices(self.path / "notices.sqlite")
            opening.callback(self._notices.close)
            self._catalog = Catalog(self.path / "catalog.sqlite")
            opening.callback(self._catalog.close)
            self._words = Withdrawals(self.path / "withdrawn.sqlite")
            opening.callback(self._words.close)
            self.ledger = Ledger(self.path / "ledger.sqlite")
            self._doors = Doors(self._notices)
            hub = _HubDoor(self._doors, HUB, store)
            Hub(hub, self.clock, self._catalog, self.ledger.recorder(HUB, self.clock.now_ns), words=self._words)
            opening.pop_all()

    def enter(self, node: NodeId, role: str, author: str = "") -> tuple[FolderTransport, MemberStore]:
        """Let somebody in: its door and its store, until the world is closed.

        Args:
            node: its name.
            role: what it is to others.
            author: its public key; a name stays with the key that took it first.

        Raises:
            ConfigError: the name belongs to another key, or to the hub.
        """
        if node == HUB:
            raise ConfigError(f"the name {HUB!r} is the hub's: take another")
        self._notices.enter(node, role, author)
        self._entered.append(node)
        store = self._store(node)
        return FolderTransport(self._doors, node, store), store

    def close(self) -> None:
        """Leave: write what waits and let go of the files. Calling it twice is fine."""
        for node in self._entered:
            self._notices.leave(node)
        self._entered.clear()
        for store in self._stores:
            store.close()
        for part in (self.ledger, self._words, self._catalog, self._notices):
            part.close()

    def _store(self, node: NodeId) -> MemberStore:
        store = MemberStore(self.path, node)
        self._stores.append(store)
        return store


class _HubDoor(FolderTransport):
    """The hub's door: it hears what other processes' hubs were told before it answers, and tells them what it is told."""

    _caught_up = 0  # verdicts up to this notice have reached the hub behind this door

    async def answer(self, asker: NodeId, name: str, body: bytes) -> bytes:
        await self._catch_up()
        answer = await super().answer(asker, name, body)
        if name == "verdict":
            self._doors.notices.post(_VERDICTS, asker, body, keep=VERDICTS_KEPT)  # only after the hub has checked it
        return answer

    async def _catch_up(self) -> None:
        for notice in self._doors.notices.after(self._caught_up, _VERDICTS):
            with contextlib.suppress(KuberError):  # anybody can write into the folder: what is wrong is passed over
                await super().answer(notice.sender, "verdict", notice.body)
            self._caught_up = notice.id
