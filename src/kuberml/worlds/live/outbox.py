"""The outbox: what a node has told its hub, or could not yet. After each start of the hub it is told again.

Announcements and verdicts are signed statements that a hub takes in any number of times with the same effect, so saying
them again is always right; a publication made while the hub was away reaches it without anybody's help.

What is said is kept first, so a full disk stops it. That something was *taken* need not be kept: it is said once more then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.core.ids import NodeId
from kuberml.core.seam import Store
from kuberml.exchange import wire
from kuberml.knowledge.verdict import SignedVerdict
from kuberml.worlds.live.names import HUB

PREFIX = "outbox/"
MAX_ITEMS = 4096
"""Beyond so many, the oldest is no longer said again."""

Send = Callable[[str, bytes], Awaitable[bytes]]


class _Item(msgspec.Struct, frozen=True):
    name: str
    body: bytes
    is_due: bool


class Outbox:
    """One node's, in its store."""

    def __init__(self, store: Store, node: NodeId) -> None:
        """Of `node`: the vault may have been another's before, whose words this one cannot say."""
        self._store, self._node = store, node
        memory, mine = store.memory(), f"{PREFIX}{node}/"
        self._items = {key: msgspec.msgpack.decode(memory[key], type=_Item) for key in sorted(memory) if key.startswith(mine)}

    def asked(self, to: NodeId, name: str, body: bytes) -> None:
        """Something is about to be said: keep it first, if it is for the hub."""
        key = _key(self._node, name, body) if to == HUB else None
        if key is None or (key in self._items and self._items[key].body == body):
            return
        self._put(key, _Item(name, body, True))
        if len(self._items) > MAX_ITEMS:
            self._drop(next(iter(self._items)))

    def answered(self, to: NodeId, name: str, body: bytes, error: Exception | None) -> None:
        """The hub has taken it, or refused it for good: it is not due any more. Unreachable: it stays due."""
        key = _key(self._node, name, body) if to == HUB else None
        if key is None or key not in self._items or self._items[key].body != body or isinstance(error, Unreachable):
            return
        if error is not None:
            self._drop(key)
        elif self._items[key].is_due:
            self._items[key] = taken = _Item(name, body, False)
            with contextlib.suppress(OSError):
                self._store.remember({key: msgspec.msgpack.encode(taken)})

    async def send_all(self, send: Send) -> None:
        """Say everything again, what is due first. Raises Unreachable: the hub went away meanwhile."""
        await self._say(sorted(self._items.items(), key=lambda pair: not pair[1].is_due), send)

    async def send_due(self, send: Send) -> None:
        """Say what the hub has not taken yet. Raises Unreachable: it still cannot."""
        await self._say([(key, item) for key, item in self._items.items() if item.is_due], send)

    async def _say(self, items: list[tuple[str, _Item]], send: Send) -> None:
        for key, item in items:
            if not self._still(key, item):
                continue  # something newer was said there meanwhile: this would take its place, and be all that is said again
            try:
                await send(item.name, item.body)
            except RemoteError:
                if self._still(key, item):
                    self._drop(key)

    def _still(self, key: str, item: _Item) -> bool:
        return key in self._items and self._items[key].body == item.body

    @property
    def due(self) -> int:
        """How many things the hub has not taken yet."""
        return sum(item.is_due for item in self._items.values())

    def _drop(self, key: str) -> None:
        self._items.pop(key, None)
        with contextlib.suppress(OSError):
            self._store.remember({key: None})

    def _put(self, key: str, item: _Item) -> None:
        self._store.remember({key: msgspec.msgpack.encode(item)})
        self._items.pop(key, None)
        self._items[key] = item


def _key(node: NodeId, name: str, body: bytes) -> str | None:
    """One place for each slot that is announced and each card that is judged; None: this is not kept."""
    readers: dict[str, Any] = {"announce": wire.Announcement, "verdict": SignedVerdict}
    if name not in readers:
        return None
    try:
        said = wire.read(body, readers[name])
    except RemoteError:
        return None
    if name == "announce":
        return f"{PREFIX}{node}/announce/{said.signed.card.author}/{said.signed.card.slot}"
    return f"{PREFIX}{node}/verdict/{said.verdict.card}"
