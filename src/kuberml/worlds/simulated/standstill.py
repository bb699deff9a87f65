"""Says so when virtual time stands still in real seconds: some node's code computes, or turns in a circle, and never waits.

Nothing here decides a result: a thread looks on, and real time that goes by in jobs is no standstill.
"""

from __future__ import annotations

import asyncio
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import kuberml
from kuberml.core.units import show_seconds
from kuberml.worlds.simulated.loop import NodeTask, VirtualLoop

STILL_S = 10.0
"""Of real time, without a timer that fires."""
LOOK_S = 1.0
LOOKS = 200
"""Looks, a millisecond apart, for a moment in which a node's own code runs."""

_OURS = str(Path(kuberml.__file__).parent)
_NODES = str(Path(_OURS, "paradigms"))
_WORK = tuple(str(Path(_OURS, "worlds", "simulated", name)) for name in ("workers.py", "ray_workers.py", "together.py"))
_LIBRARIES = (*(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")), "<")


@contextmanager
def looked_on(loop: VirtualLoop, say: Callable[[str], None]) -> Iterator[None]:
    """Look on while the calling thread runs a loop. `say` is called from another thread, once for each standstill."""
    over = threading.Event()
    thread = threading.Thread(target=_look_on, args=(loop, say, threading.get_ident(), over), name="standstill", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _look_on(loop: VirtualLoop, say: Callable[[str], None], runner: int, over: threading.Event) -> None:
    stand, since_s, told = (-1, -1), time.monotonic(), False
    while not over.wait(LOOK_S):
        if stand != (loop.now_ns, loop.events) or _works(runner):
            stand, since_s, told = (loop.now_ns, loop.events), time.monotonic(), False
        elif not told and time.monotonic() - since_s >= STILL_S and (who := _who(loop, runner, over)):
            told = True
            say(f"virtual time has stood still at {show_seconds(loop.time())} for {STILL_S:.0f} s: {who}, and never waits")


def _works(runner: int) -> bool:
    """Whether a job is done here, or one on a worker waited for."""
    return any(frame.f_code.co_filename in _WORK for frame in _frames(runner))


def _who(loop: VirtualLoop, runner: int, over: threading.Event) -> str:
    """Which node's code runs, and where. "": it was not met."""
    for _ in range(LOOKS):
        task = asyncio.current_task(loop)
        frame = next((frame for frame in _frames(runner) if _is_a_node_s(frame.f_code.co_filename)), None)
        if isinstance(task, NodeTask) and frame is not None:
            place = f"{Path(frame.f_code.co_filename).name} line {frame.f_lineno}, {frame.f_code.co_qualname}"
            return f"{task.node or task.get_name()} is at {place}"
        if over.wait(0.001):
            break
    return ""


def _is_a_node_s(file: str) -> bool:
    return file.startswith(_NODES) or not file.startswith((_OURS, *_LIBRARIES))


def _frames(thread: int) -> Iterator[FrameType]:
    """What a thread is in, the innermost first."""
    frame = sys._current_frames().get(thread)
    while frame is not None:
        yield frame
        frame = frame.f_back
