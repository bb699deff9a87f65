"""Workers on a Ray cluster: the same tasks, on as many machines as the cluster has. Extra `ray`; decision 0017.

The cluster is the one that `RAY_ADDRESS` names; without it a local one is started, that only this machine can reach, and
ended with the run. Each of its machines has kuberml, the data and the same library versions: the trace hash is then that of
any other workers. Ray carries our bytes as bytes; it starts this module's `_execute` by name. Whoever reaches a Ray cluster's
ports runs code there: keep it in a network of your own.
"""

from __future__ import annotations

import importlib
import os
from collections import deque
from typing import Any

from kuberml.core import values
from kuberml.core.errors import InternalError, MissingExtra
from kuberml.worlds.simulated.processes import worker_environment
from kuberml.worlds.simulated.threads import OneThread
from kuberml.worlds.simulated.workers import Ticket, execute

AHEAD = 2
"""Tasks a core that Ray holds at a time: one runs, one waits there already. The others wait here, where they can be dropped."""

_threads = OneThread()


class RayWorkers:
    """See `workers.Workers`. A task that is lost with its process or machine is run once more, and no other is.

    Raises:
        MissingExtra: Ray is not installed. InternalError: no cluster answers.
    """

    variant = b""

    def __init__(self) -> None:
        self._ray, self._owns = _connected()
        self.count = max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        options = {"num_cpus": 1, "max_retries": 1, "retry_exceptions": False, "runtime_env": {"env_vars": _environment()}}
        self._run = self._ray.remote(**options)(_execute)
        self._waiting: deque[Ticket] = deque()
        self._running: dict[Any, Ticket] = {}

    def submit(self, task: bytes) -> Ticket:
        """See Workers."""
        ticket = Ticket(task)
        self._waiting.append(ticket)
        self._fill()
        return ticket

    def result(self, ticket: Ticket) -> bytes:
        """See Workers."""
        while ticket.reply is None:
            self._collect(timeout_s=None)
        self._collect(timeout_s=0)
        return ticket.reply

    def drop(self, ticket: Ticket) -> None:
        """See Workers. One that Ray holds already ends for nothing."""
        ticket.dropped = True

    def close(self) -> None:
        """See Workers. A cluster that was there before stays."""
        self._waiting.clear()
        self._running.clear()
        if self._owns:
            self._ray.shutdown()

    def _fill(self) -> None:
        while self._waiting and len(self._running) < AHEAD * self.count:
            ticket = self._waiting.popleft()
            if not ticket.dropped:
                modules = sorted(values.modules() - {"__main__"})
                self._running[self._run.remote(values.dumps([modules, ticket.task]))] = ticket

    def _collect(self, timeout_s: float | None) -> None:
        """Take the replies that are there (at least one without a timeout), and hand in as many tasks."""
        if not self._running:
            return
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout_s)
        for reference in ready:
            ticket = self._running.pop(reference)
            self._fill()
            try:
                ticket.reply = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                if not ticket.dropped:
                    name = values.loads(ticket.task)[0]
                    raise InternalError(
                        f"job {name} killed its worker process twice, or its machines are gone: {error}"
                    ) from error


def _execute(task: bytes) -> bytes:
    """What runs on the cluster: bytes of (modules of all values that may be in there, task) in, the reply's bytes out."""
    modules, inner = values.loads(task)
    for module in modules:
        importlib.import_module(module)
    _threads.hold()
    return execute(inner)


def _connected() -> tuple[Any, bool]:
    """Ray, connected; and whether the cluster is ours to end."""
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("workers = 'ray'", "ray") from error
    if ray.is_initialized():
        return ray, False
    address = os.environ.get("RAY_ADDRESS")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    local: dict[str, Any] = {} if address else {"_node_ip_address": "127.0.0.1", "include_dashboard": False}
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, **local)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InternalError(f"no Ray cluster at {address or 'this machine'}: {error}") from error
    return ray, True


def _environment() -> dict[str, str]:
    """What a worker's environment adds: one thread, and on our own machine where this process finds its modules."""
    ours = worker_environment()
    if os.environ.get("RAY_ADDRESS"):
        del ours["PYTHONPATH"]
    return {name: text for name, text in ours.items() if os.environ.get(name) != text or name == "PYTHONPATH"}
