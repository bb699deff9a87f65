"""Tasks that end together."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any


async def end_all(tasks: Collection[asyncio.Future[Any]]) -> None:
    """Cancel tasks and wait until each has ended: what they hold is free then. How they ended is not asked for."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
