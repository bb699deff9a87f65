"""Where the real work is done: here, or on worker processes of one thread each.

A task is the bytes of (job name, inputs); a reply is the bytes of its value or of its error. The same bytes go in and come
out wherever a job runs, so the number of workers cannot show. Nothing is pickled.

A worker is a fresh interpreter that imports only what its jobs need, or a fork of one that has imported it already. One that
dies is replaced and its task is run once more.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import multiprocessing.connection as connections
import os
import signal
import traceback
from collections import deque
from collections.abc import Sequence
from typing import Any, Literal, Protocol

from kuberml.core import errors, values
from kuberml.core.errors import ConfigError, InternalError
from kuberml.core.jobs import load_job
from kuberml.worlds.simulated.audit import unwatched
from kuberml.worlds.simulated.processes import Worker, started
from kuberml.worlds.simulated.threads import OneThread


class Ticket:
    """A task that was handed in, and its reply once there is one."""

    __slots__ = ("deaths", "dropped", "reply", "task")

    def __init__(self, task: bytes) -> None:
        self.task = task
        self.reply: bytes | None = None
        self.deaths = 0
        self.dropped = False


class Workers(Protocol):
    """Does tasks.

    Attributes:
        count: how many can run at a time.
        variant: what else than its bytes a task's result depends on here; b"" where it is what the job returns, to the bit.
    """

    count: int
    variant: bytes

    def submit(self, task: bytes) -> Ticket:
        """Hand in a task; it may start now."""
        ...

    def result(self, ticket: Ticket) -> bytes:
        """Its reply, waiting for it. Raises InternalError: its worker died twice."""
        ...

    def drop(self, ticket: Ticket) -> None:
        """Nobody wants the reply any more."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...


def execute(task: bytes) -> bytes:
    """Do a task; never raises for what the job raises."""
    try:
        name, inputs = values.loads(task)
        return values.dumps([True, load_job(name)(*inputs)])
    except Exception as error:
        fields = {name: field for name, field in vars(error).items() if isinstance(field, str | int)}
        told = [type(error).__module__, type(error).__qualname__, str(error), fields, traceback.format_exc()]
        return values.dumps([False, *told])


def succeeded(reply: bytes) -> bool:
    """Whether a reply holds a value, told from its first two bytes: a MessagePack list of few, and what stands first in it."""
    return reply[0] & 0xF0 == 0x90 and reply[1] == 0xC3


def open_reply(reply: bytes) -> Any:
    """The value in a reply.

    Raises:
        The error that the job raised, if its class is a builtin or one of ours; else InternalError with its text.
    """
    done, *content = values.loads(reply)
    if done:
        return content[0]
    module, name, message, fields, trace = content
    kind = getattr({"builtins": builtins, errors.__name__: errors}.get(module), name, None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        kind, message = InternalError, f"a job raised {name}: {message}"
    error = kind.__new__(kind, message)  # not __init__: some classes want other arguments
    error.args = (message,)
    vars(error).update(fields)
    error.add_note(trace)
    raise error


class Here:
    """One worker: this process, lazily, when the reply is asked for. Every job runs on one thread."""

    variant = b""

    def __init__(self) -> None:
        self.count = 1
        self._threads = OneThread()

    def submit(self, task: bytes) -> Ticket:
        """See Workers; nothing starts yet."""
        return Ticket(task)

    def result(self, ticket: Ticket) -> bytes:
        """See Workers."""
        if ticket.reply is None:
            self._threads.hold()
            ticket.reply, ticket.task = unwatched(execute, ticket.task), b""
            self._threads.hold()  # the job may have imported torch; before its first use there is nothing to hold
        return ticket.reply

    def drop(self, ticket: Ticket) -> None:
        """See Workers: what was not asked for is never done."""

    def close(self) -> None:
        """Give the process its threads back."""
        self._threads.release()


class Pool:
    """Up to `count` worker processes, started as tasks come in. A task starts as soon as one is free.

    Raises:
        ConfigError: `count` is less than 1.
    """

    variant = b""

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ConfigError(f"workers must be at least 1, not {count}")
        self.count = count
        self._waiting: deque[Ticket] = deque()
        self._workers: list[Worker] = []
        self._parent: Worker | None = None
        self._unborn: list[Worker] = []
        """Those that fork off it when it has done its task."""

    def prime(self, task: bytes) -> Ticket:
        """Hand in the first task of all: the workers are then forks of the process that did it, and have what it imported.

        To import torch takes seconds and a hundred megabytes: they are spent once, whatever the number of workers.
        """
        assert not self._workers, "only before any other task"
        self._parent, self._unborn = started(forks=self.count)
        self._workers = [self._parent]
        return self._hand_in(task)

    def submit(self, task: bytes) -> Ticket:
        """See Workers."""
        if len(self._workers) < self.count and not self._unborn:
            self._workers.append(started()[0])
        return self._hand_in(task)

    def _hand_in(self, task: bytes) -> Ticket:
        ticket = Ticket(task)
        self._waiting.append(ticket)
        self._pump(wait=False)
        return ticket

    def result(self, ticket: Ticket) -> bytes:
        """See Workers."""
        while ticket.reply is None:
            self._pump(wait=True)
        self._pump(wait=False)
        return ticket.reply

    def drop(self, ticket: Ticket) -> None:
        """See Workers. One that runs already ends for nothing."""
        ticket.dropped = True

    def close(self) -> None:
        """See Workers."""
        for worker in (*self._workers, *self._unborn):
            worker.stop()
        if self._parent is not None:
            self._parent.stop(at_once=bool(self._unborn))

    def _pump(self, *, wait: bool) -> None:
        """Take the replies that are there (at least one if `wait`) and give idle workers something to do."""
        busy = {worker.pipe: worker for worker in self._workers if worker.ticket is not None}
        if busy:
            for pipe in connections.wait(list(busy), timeout=None if wait else 0):
                self._collect(busy[pipe])  # type: ignore[index]
        for worker in self._workers:
            while worker.ticket is None and self._waiting:
                ticket = self._waiting.popleft()
                if not ticket.dropped:
                    self._begin(worker, ticket)

    def _begin(self, worker: Worker, ticket: Ticket) -> None:
        worker.ticket = ticket
        try:
            worker.send(ticket.task)
        except OSError:
            self._bury(worker)

    def _collect(self, worker: Worker) -> None:
        assert worker.ticket is not None
        try:
            worker.ticket.reply = worker.pipe.recv_bytes()
            worker.ticket.task = b""  # nobody does it again: of many that wait for their time, only one of the two is kept
            worker.ticket = None
            if self._unborn:  # the parent has answered, and does nothing any more
                self._workers, self._unborn = self._unborn, []
        except (EOFError, OSError):
            self._bury(worker)

    def _bury(self, worker: Worker) -> None:
        """Replace a dead worker; its task goes first in the queue, once."""
        ticket = worker.ticket
        assert ticket is not None
        for lost in (worker, *self._unborn):
            lost.stop()
        self._unborn = []
        self._workers[self._workers.index(worker)] = started()[0]
        ticket.deaths += 1
        if ticket.deaths > 1 and not ticket.dropped:
            raise InternalError(f"job {values.loads(ticket.task)[0]} killed its worker process twice (out of memory?)")
        self._waiting.appendleft(ticket)


Count = int | Literal["ray"]
"""How many worker processes; or those of a Ray cluster."""


def make_workers(count: Count) -> Workers:
    """`count` worker processes; 1: this process, lazily; "ray": see `ray_workers`.

    Raises:
        ConfigError: fewer than 1, or another word. MissingExtra: Ray is not installed.
    """
    if count == "ray":
        from kuberml.worlds.simulated.ray_workers import RayWorkers

        return RayWorkers()
    if not isinstance(count, int):
        raise ConfigError(f"workers = {count!r}: give a number, or 'ray'")
    return Here() if count == 1 else Pool(count)


def work(descriptor: int, forks: Sequence[int] = ()) -> None:
    """The life of a worker process: tasks in, replies out, until the pipe closes.

    With `forks`, the ends of their pipes, it does one task; they do the others. Forking is safe because it has one thread: what
    starts others (OpenMP, BLAS) is held to one by the environment, and autograd has run nothing yet.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent; the pipe tells us
    threads, pipe = OneThread(), connections.Connection(descriptor)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        if forks:
            _answer(pipe, threads)
            pipe = _forked(pipe, forks)
        while True:
            _answer(pipe, threads)


def _answer(pipe: connections.Connection[Any, Any], threads: OneThread) -> None:
    modules, task = values.loads(pipe.recv_bytes())
    for module in modules:
        importlib.import_module(module)
    threads.hold()
    pipe.send_bytes(execute(task))


def _forked(pipe: connections.Connection[Any, Any], forks: Sequence[int]) -> connections.Connection[Any, Any]:
    """In each fork, its pipe. This process waits until its own breaks, then ends the forks, whatever they do.

    Raises:
        EOFError: it is broken.
    """
    children: list[int] = []
    for mine in forks:
        child = os.fork()
        if not child:
            pipe.close()
            for other in forks[len(children) + 1 :]:  # who kept one open would hide that its worker died
                os.close(other)
            return connections.Connection(mine)
        children.append(child)
        os.close(mine)
    try:
        pipe.recv_bytes()  # nothing comes
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)  # of one that is dead already, nobody else has the number yet
            os.waitpid(child, 0)
    return pipe
