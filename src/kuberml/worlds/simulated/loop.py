"""An asyncio loop in virtual time: ordinary coroutines, no waiting, one order of events.

Laws
    Time is integer nanoseconds and moves only when nothing is ready to run.
    Timers fire one at a time, by (deadline, creation number); what one sets off runs to its end before the next fires.
    Nothing scheduled and nothing ready is a deadlock: an error that names who waits, never a hang.
    Sets of tasks iterate in an order that depends on creation numbers only (CPython's depends on addresses).
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import selectors
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from kuberml.core.errors import ConfigError, InternalError
from kuberml.core.units import NS, to_ns
from kuberml.worlds.simulated.calls import Call, Timer

T = TypeVar("T")
NODE: contextvars.ContextVar[str] = contextvars.ContextVar("kuberml_node", default="")
"""Whose code is running. Tasks inherit it, so a crash finds every task of its node."""

MAX_TURNS = 10_000_000
"""Loop turns at one instant before we say that time stands still."""
MAX_SPINS = 200_000
"""The same, without a timer that fires. Turns are of all nodes together, so this is how often one task goes on in a row."""


class NodeTask(asyncio.Task[Any]):
    """A task that knows its creation number and its node."""

    __slots__ = ("node", "number", "place")

    def __init__(self, coro: Coroutine[Any, Any, Any], *, loop: VirtualLoop, **options: Any) -> None:
        context: contextvars.Context | None = options.get("context")
        self.number = loop.next_number()
        self.node = NODE.get() if context is None else context.get(NODE, "")
        self.place = loop.place_of_task(self)
        super().__init__(coro, loop=loop, **options)

    def __hash__(self) -> int:
        # asyncio keeps tasks in sets (TaskGroup, wait): by address their order would change from process to process.
        return self.place


class _Selector(selectors.SelectSelector):
    """Waits for nothing: lets the loop take its turns instead."""

    def __init__(self, turn: Callable[[bool], None]) -> None:
        super().__init__()
        self._turn = turn

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._turn(timeout is not None)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module. `now_ns` is the virtual time; `at_ns` schedules at an exact integer."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.events = 0
        self.failure: BaseException | None = None
        self._soon: deque[Call] = deque()
        self._timers: list[tuple[int, int, Timer]] = []
        self._dead_timers = 0
        self._turns, self._most_turns = 0, MAX_SPINS
        self._is_stopped = False
        self._number = 0
        super().__init__(_Selector(self._take_turns))
        self.set_task_factory(_new_task)
        self.set_exception_handler(lambda _, context: self._on_exception(context))

    def __del__(self) -> None:
        # A world may be built, refused or inspected, and never run: asyncio's warning about an open loop would be noise.
        if not self.is_closed():
            self.close()

    def next_number(self) -> int:
        """The next creation number: it orders timers and tasks."""
        self._number += 1
        return self._number

    def reserve(self, count: int) -> int:
        """The first of `count` creation numbers that nobody else gets."""
        self._number += count
        return self._number - count + 1

    def place_of_task(self, task: NodeTask) -> int:
        """What a new task's place in sets of tasks depends on."""
        return task.number

    def at_step_end(self, callback: Callable[..., object], *args: Any) -> None:
        """Call back when the current step ends. A free schedule has no steps: now."""
        callback(*args)

    def time(self) -> float:
        """Virtual seconds; exact to the nanosecond for 104 days, then to the nearest float."""
        return self.now_ns / NS

    def call_soon(  # type: ignore[override]  # the stub ties callback and args by a TypeVarTuple; our handles are leaner
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Call:
        """See asyncio."""
        call = Call(callback, args, contextvars.copy_context() if context is None else context)
        self._soon.append(call)
        return call

    call_soon_threadsafe = call_soon  # type: ignore[assignment]  # there are no threads here

    def call_later(  # type: ignore[override]  # as above
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Timer:
        """See asyncio. A delay is rounded to whole nanoseconds."""
        if context is None:
            context = contextvars.copy_context()
        self._number += 1
        return self._push(self.now_ns + to_ns(max(delay, 0)), self._number, callback, args, context)

    def call_at(  # type: ignore[override]  # as above
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Timer:
        """See asyncio."""
        return self.at_ns(to_ns(max(when, 0)), callback, *args, context=context)

    def at_ns(
        self, when_ns: int, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Timer:
        """Call back at `when_ns` (now, if that is past), after everything already scheduled for that instant."""
        context = contextvars.copy_context() if context is None else context
        return self._push(max(when_ns, self.now_ns), self.next_number(), callback, args, context)

    def at_place(
        self, when_ns: int, place: int, callback: Callable[..., object], *args: Any, context: contextvars.Context
    ) -> Timer:
        """Call back at `when_ns`, now or later; `place`, a number of its own, says where among the others of that instant."""
        return self._push(when_ns, place, callback, args, context)

    def _push(
        self, when_ns: int, number: int, callback: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context
    ) -> Timer:
        timer = Timer(when_ns, callback, args, context, self._on_timer_cancelled)
        heapq.heappush(self._timers, (when_ns, number, timer))
        return timer

    async def sleep_ns(self, duration_ns: int) -> None:
        """Wait for an exact number of nanoseconds."""
        future: asyncio.Future[None] = self.create_future()
        timer = self.at_ns(self.now_ns + duration_ns, _wake, future)
        try:
            await future
        finally:
            timer.cancel()

    def run_in_executor(  # type: ignore[override]  # as above
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Refused: a thread's end has no place in virtual time.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{func!r} would run in a thread, which virtual time cannot order: make it a job and use compute")

    def tasks(self, node: str | None = None) -> list[NodeTask]:
        """Unfinished tasks in creation order: all, or those of one node."""
        every = (task for task in asyncio.all_tasks(self) if isinstance(task, NodeTask))
        return sorted((task for task in every if node in (None, task.node)), key=lambda task: task.number)

    def stop(self) -> None:
        """See asyncio."""
        self._is_stopped = True
        super().stop()

    def fail(self, error: BaseException) -> None:
        """End the run with this error; the first one counts."""
        self.failure = self.failure or error
        self.stop()

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run `main` to its end, cancel what is left in creation order, and close the loop.

        Raises:
            InternalError: a deadlock, or an instant that never ends.
            Whatever `main`, or a callback that nobody awaits, raises.
        """
        try:
            return self._until(main)
        finally:
            try:
                self._cancel_all()
            finally:
                self.close()

    def _until(self, main: Coroutine[Any, Any, T]) -> T:
        result: list[T] = []
        try:
            result.append(self.run_until_complete(main))
        except RuntimeError:
            if self.failure is None:
                raise
        if self.failure is not None:
            raise self.failure  # `fail` stopped the loop, which asyncio reports as a RuntimeError
        return result[0]

    def _cancel_all(self) -> None:
        left = self.tasks()
        for task in left:
            task.cancel()
        self.failure = None
        if left:
            self.run_until_complete(asyncio.wait(left))
        self.run_until_complete(self.shutdown_asyncgens())

    def _on_exception(self, context: Mapping[str, Any]) -> None:
        # Nobody awaits what failed here. In a simulation that must not be a line in a log.
        self.fail(context.get("exception") or InternalError(str(context.get("message"))))

    def _on_timer_cancelled(self) -> None:
        self._dead_timers += 1
        if self._dead_timers > 1000 and self._dead_timers * 2 > len(self._timers):
            self._timers = [entry for entry in self._timers if not entry[2].is_cancelled]
            heapq.heapify(self._timers)
            self._dead_timers = 0

    def _take_turns(self, just_one: bool) -> None:
        """What asyncio's own loop does between two looks at its sockets, until it is stopped: here nothing ever comes in.

        Every event of a simulation comes through here, some microseconds each: it calls nothing that it can say itself.
        """
        soon, self._is_stopped = self._soon, False
        while not self._is_stopped:
            if not soon and not just_one and (due := self._next_due()) is not None:
                soon.append(due)  # at once: nothing else is ready, so it is the same as a turn of the loop later
            self._turns += 1
            if self._turns > self._most_turns:
                raise self._standstill()
            for _ in range(len(soon)):  # what is added meanwhile belongs to the next turn
                call = soon.popleft()
                if not call.is_cancelled:
                    try:
                        call.context.run(call.callback, *call.args)
                    except (SystemExit, KeyboardInterrupt):
                        raise
                    except BaseException as error:
                        self.call_exception_handler({"message": f"{call.callback!r} failed", "exception": error})
            if just_one:
                return

    def _next_due(self) -> Timer | None:
        """The next timer; the clock moves to its deadline. None: something else is next. Raises InternalError: nothing is."""
        timers = self._timers
        while timers:
            when_ns, _, timer = heapq.heappop(timers)
            timer.pending = False
            if timer.is_cancelled:
                self._dead_timers -= 1
                continue
            if when_ns > self.now_ns:
                self.now_ns, self._turns = when_ns, 0
            self._most_turns = min(self._turns + MAX_SPINS, MAX_TURNS)
            self.events += 1
            return timer
        raise InternalError(f"deadlock at {self.time()} s: nothing is scheduled. {self._waiting()}")

    def _standstill(self) -> InternalError:
        spinning = [one for call in self._soon if isinstance(one := getattr(call.callback, "__self__", None), NodeTask)]
        self._turns = 0
        return InternalError(f"time stands still at {self.time()} s: a task never waits. {self._waiting(spinning)}")

    def _waiting(self, tasks: Sequence[NodeTask] = ()) -> str:
        """Where tasks stand: these, or all."""
        tasks = tasks or self.tasks()
        shown = [
            f"{task.get_name()}{'' if task.get_name().endswith(task.node) else f' of {task.node}'} ({_where(task)})"
            for task in tasks[:20]
        ]
        return f"{len(tasks)} task{'' if len(tasks) == 1 else 's'}: {'; '.join(shown) or 'none'}"


def _new_task(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> NodeTask:
    assert isinstance(loop, VirtualLoop)
    return NodeTask(coro, loop=loop, **options)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _where(task: NodeTask) -> str:
    """The lines that a task waits at, from the outermost coroutine to the innermost."""
    lines: list[str] = []
    coro: Any = task.get_coro()
    while (frame := getattr(coro, "cr_frame", None)) is not None:
        lines.append(f"{frame.f_code.co_qualname} line {frame.f_lineno}")
        coro = coro.cr_await
    return " > ".join(lines) or "ended"
