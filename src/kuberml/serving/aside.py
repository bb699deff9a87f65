"""One thread for work that may take minutes (compiling): unlike an executor's, the process does not wait for it at its end."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Aside:
    """Does one thing after the other. What is still to be done when it closes is cancelled."""

    def __init__(self, name: str) -> None:
        self._waiting: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._closed = False
        self._thread.start()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Have it done; its result or what it raises is the future's. After `close` it is cancelled at once."""
        future: Future[T] = Future()
        if self._closed:
            future.cancel()
            return future
        self._waiting.put((future, work))
        return future

    def close(self) -> None:
        """Begin nothing more. What is being done goes on, and nobody waits for it."""
        self._closed = True
        self._waiting.put(None)

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            future, work = item
            if self._closed:
                future.cancel()
            elif future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:  # the future's owner is told
                    future.set_exception(error)
