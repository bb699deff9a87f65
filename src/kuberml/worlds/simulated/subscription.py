"""What one node hears under one topic."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from kuberml.core.ids import NodeId


class Subscription:
    """What others announce under one topic; an async iterator. Beyond `limit` waiting items the oldest are dropped."""

    def __init__(self, topic: str, limit: int, on_close: Callable[[Subscription], None]) -> None:
        self.topic = topic
        self.dropped = 0
        self._on_close = on_close
        self._items: deque[tuple[NodeId, bytes]] = deque(maxlen=limit)
        self._waiter: asyncio.Future[None] | None = None

    def push(self, author: NodeId, body: bytes) -> None:
        """One more item."""
        self.dropped += len(self._items) == self._items.maxlen
        self._items.append((author, body))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> tuple[NodeId, bytes]:
        while not self._items:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._items.popleft()

    async def aclose(self) -> None:
        """End the subscription."""
        self._on_close(self)
