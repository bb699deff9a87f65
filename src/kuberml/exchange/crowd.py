"""A crowd at work: as soon as one is idle it gets something to do, and what is done is taken in the order in which it comes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from typing import Any, TypeVar

from kuberml.core.ids import NodeId
from kuberml.exchange.node import Node

T = TypeVar("T")

LOOK = NodeId("?")
"""No node: the wait until it is looked again who is there."""

DOUBLINGS = 6
"""A node of which nothing comes time after time rests twice as long each time, so often at most."""


Choose = Callable[[int, Sequence[NodeId], int], Awaitable[list[NodeId]]]
"""Who of some begins: (how many have begun before, the idle, how many may) -> names, sorted."""


async def keep_busy(
    node: Node,
    work: Callable[[NodeId], Awaitable[T | None]],
    *,
    role: str,
    share: float,
    rest_s: float,
    choose: Choose | None = None,
) -> AsyncGenerator[tuple[NodeId, T], None]:
    """Let nodes of a role work, each at one thing at a time, and give what they come to, for ever: close it (`aclosing`).

    New work begins when the last result has been dealt with. What `work` raises is raised here; what is under way at the end
    is cancelled.

    Args:
        node: who asks them.
        work: what one of them does; None: nothing came of it, and this node is left alone for a while.
        role: whose.
        share: of the nodes present, the part that works at a time; at least one.
        rest_s: how long a node of which nothing came is left alone (longer if again), and how often newcomers are looked for.
        choose: who of the idle begins; None: drawn.
    """
    busy: dict[NodeId, asyncio.Future[Any]] = {}
    failed: Counter[NodeId] = Counter()
    ended: asyncio.Queue[NodeId] = asyncio.Queue()

    def begin(name: NodeId, what: Awaitable[Any]) -> None:
        busy[name] = asyncio.ensure_future(what)
        busy[name].add_done_callback(lambda _: ended.put_nowait(name))

    async def do(name: NodeId) -> T | None:
        found = await work(name)
        if found is None:
            await node.sleep(rest_s * 2 ** min(failed[name], DOUBLINGS))
        failed[name] = 0 if found is not None else failed[name] + 1
        return found

    begun = 0
    try:
        while True:
            for name in await _idle(node, busy, role, share, begun, choose):
                begun += 1
                begin(name, do(name))
            if LOOK not in busy:
                begin(LOOK, node.sleep(rest_s))
            name = await ended.get()
            found = await busy.pop(name)
            if found is not None:
                yield name, found
    finally:
        for future in busy.values():
            future.cancel()


async def _idle(
    node: Node, busy: Collection[NodeId], role: str, share: float, begun: int, choose: Choose | None
) -> list[NodeId]:
    """Those who begin now, among the idle."""
    present = node.peers(role)
    idle = [name for name in present if name not in busy]
    free = max(1, round(share * len(present))) - (len(present) - len(idle))
    if free <= 0 or not idle:
        return []
    if choose is not None:
        return await choose(begun, idle, min(free, len(idle)))
    stream = node.rng("crowd", begun)
    return sorted(NodeId(name) for name in stream.choice(idle, min(free, len(idle)), replace=False).tolist())
