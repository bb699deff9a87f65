"""An event loop on a thread of its own, so that plain (also notebook) code can wait for coroutines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from kuberml.core.tasks import end_all

T = TypeVar("T")


class Background:
    """The loop. Notebooks run one already on the caller's thread, and a loop cannot be run inside another."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._loop.is_closed()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for a coroutine's result; what it raises is raised here. Ctrl-C while waiting stops the coroutine too."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Stop what still runs, and the loop. Calling it twice is fine."""
        if not self._loop.is_closed():
            self.run(_stop_others())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


async def _stop_others() -> None:
    await end_all(asyncio.all_tasks() - {asyncio.current_task()})
