"""Worker processes and the pipes to them: how they are started, alone or several at once, and how they end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from kuberml.core import values

if TYPE_CHECKING:
    from kuberml.worlds.simulated.workers import Ticket

_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads of several processes starve each other
}
_START = "from kuberml.worlds.simulated.workers import work; work({}, {})"


class Worker:
    """Our end of the pipe to one worker process, and what it works on."""

    def __init__(self, pipe: Connection[Any, Any]) -> None:
        self.pipe = pipe
        self.ticket: Ticket | None = None
        self._told: frozenset[str] = frozenset()

    def send(self, task: bytes) -> None:
        """Name the modules of all values that may be in there, if there are new ones, then the task."""
        modules = values.modules() - self._told - {"__main__"}
        self._told |= modules
        self.pipe.send_bytes(values.dumps([sorted(modules), task]))


class Processes:
    """Those of one pool: fresh interpreters, each the first of a process group to which its forks belong."""

    def __init__(self) -> None:
        self._first: list[subprocess.Popen[bytes]] = []

    def start(self, count: int) -> list[Worker]:
        """A fresh interpreter that becomes `count` workers, see `workers.work`."""
        ours, theirs = zip(*(Pipe() for _ in range(count)), strict=True)
        own, *siblings = descriptors = [pipe.fileno() for pipe in theirs]
        command = [sys.executable, "-c", _START.format(own, siblings)]
        self._first.append(
            subprocess.Popen(  # noqa: S603 - our own interpreter
                command, env=worker_environment(), pass_fds=descriptors, stdin=subprocess.DEVNULL, process_group=0
            )
        )
        for pipe in theirs:
            pipe.close()
        return [Worker(pipe) for pipe in ours]

    def close(self) -> None:
        """End them all, whatever they do. None was waited for before: the number of its group is still nobody else's."""
        for process in self._first:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._first.clear()


def worker_environment() -> dict[str, str]:
    """Environment of a fresh interpreter that is to find what this one finds, and to compute on one thread."""
    return {**os.environ, **_ONE_THREAD, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
