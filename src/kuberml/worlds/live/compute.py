"""The seam's Compute in a live process: jobs on one thread beside the event loop, so that a node answers while it learns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kuberml.core.jobs import JobFunction, check_job
from kuberml.core.values import frozen
from kuberml.worlds.simulated.threads import OneThread


class LiveCompute:
    """`core.seam.Compute` of one process: one job at a time, in the order in which they were handed in."""

    def __init__(self, first: Callable[[], None] | None = None) -> None:
        """`first`: done once in the thread, for instance to make it less urgent than others of this process."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kuberml job", initializer=first)
        self.busy_s = 0.0
        """Seconds of jobs so far."""

    async def run(self, function: JobFunction, *values: Any) -> Any:
        """See the seam. Inputs are frozen when it is handed in."""
        job, inputs = check_job(function), frozen(list(values))
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            return await loop.run_in_executor(self._thread, _run, job, inputs)
        finally:
            self.busy_s += loop.time() - began_s

    def close(self) -> None:
        """No more jobs; waits for the one that runs."""
        self._thread.shutdown(cancel_futures=True)


def _run(job: JobFunction, inputs: list[Any]) -> Any:
    one = OneThread()
    one.hold()
    try:
        return frozen(job(*inputs))
    finally:
        one.release()
