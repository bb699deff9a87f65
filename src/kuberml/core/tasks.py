"""Tasks that run and end together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def each(items: Iterable[T], work: Callable[[T], Awaitable[None]], *, at_once: int) -> None:
    """Do some work for every item, so many at a time, begun in their order. The first error ends the others, and is raised."""
    turns = asyncio.Semaphore(at_once)

    async def one(item: T) -> None:
        async with turns:
            await work(item)

    tasks = [asyncio.ensure_future(one(item)) for item in items]
    try:
        await asyncio.gather(*tasks)
    finally:
        await end_all(tasks)


async def end_all(tasks: Collection[asyncio.Future[Any]]) -> None:
    """Cancel tasks and wait until each has ended: what they hold is free then. How they ended is not asked for."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
