"""Worker processes and the pipes to them: how they are started, alone or as forks of one, and how they end."""

from __future__ import annotations

import os
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
    """Our end of the pipe to one worker process, and what it works on. Without a `process` of ours it is somebody's fork."""

    def __init__(self, pipe: Connection[Any, Any], process: subprocess.Popen[bytes] | None = None) -> None:
        self.pipe, self._process = pipe, process
        self.ticket: Ticket | None = None
        self._told: frozenset[str] = frozenset()

    def send(self, task: bytes) -> None:
        """Name the modules of all values that may be in there, if there are new ones, then the task."""
        modules = values.modules() - self._told - {"__main__"}
        self._told |= modules
        self.pipe.send_bytes(values.dumps([sorted(modules), task]))

    def stop(self, *, at_once: bool = True) -> None:
        """End it, whatever it does; a fork ends when it has nothing to do. Not at once: it ends its forks before."""
        self.pipe.close()
        if self._process is not None:
            if at_once:
                self._process.kill()
            self._process.wait()


def started(forks: int = 0) -> tuple[Worker, list[Worker]]:
    """A fresh interpreter, and so many that fork off it when it has done one task, see `workers.work`."""
    ours, theirs = zip(*(Pipe() for _ in range(1 + forks)), strict=True)
    own, *others = descriptors = [pipe.fileno() for pipe in theirs]
    process = subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", _START.format(own, others)],
        env=worker_environment(),
        pass_fds=descriptors,
        stdin=subprocess.DEVNULL,
    )
    for pipe in theirs:
        pipe.close()
    return Worker(ours[0], process), [Worker(pipe) for pipe in ours[1:]]


def worker_environment() -> dict[str, str]:
    """Environment of a fresh interpreter that is to find what this one finds, and to compute on one thread."""
    return {**os.environ, **_ONE_THREAD, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
