"""Audit mode: a paradigm that touches the wall clock, global randomness, threads or files fails, with its name and line.

A profile hook sees every call of a builtin while the audit lasts, also of one that was imported by name long before
(`from time import time`). NumPy's global generator is Cython, which the hook cannot see: its functions are replaced meanwhile.
Who is to blame: the nearest caller outside the standard library and installed packages. kuberml itself may (a ledger writes
a file), except its paradigms; jobs may (they run `unwatched`), because they are pure by contract and read data sets.

Not seen: clocks and randomness inside other compiled extensions, and what runs in another thread.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import random
import sys
import sysconfig
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeVar

import numpy as np

from kuberml.core.errors import ConfigError

T = TypeVar("T")
_OURS = "kuberml."
_AUDITED = ("kuberml.paradigms",)
_LIBRARIES = (*(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")), "<frozen", "<string>")

_FORBIDDEN: dict[str, tuple[str, frozenset[str]]] = {
    "time": (
        "the wall clock (use node.clock)",
        frozenset({"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time", "sleep"}),
    ),
    "posix": ("files or processes", frozenset({"open", "urandom", "fork", "mkdir", "remove", "rename"})),
    "io": ("files (use node.memory)", frozenset({"open", "open_code"})),
    "_io": ("files (use node.memory)", frozenset({"open", "open_code"})),
    "_thread": ("threads (use node.compute)", frozenset({"start_new_thread"})),
    "_posixsubprocess": ("processes (use node.compute)", frozenset({"fork_exec"})),
    "sqlite3": ("files (use node.memory)", frozenset({"connect"})),
    "_sqlite3": ("files (use node.memory)", frozenset({"connect"})),
}
_CLOCK_METHODS = frozenset({"now", "utcnow", "today"})
_GLOBAL_RANDOM = random.random.__self__  # type: ignore[attr-defined]
_NUMPY_FUNCTIONS = ("seed", "ranf", "sample")  # plain functions over the global generator, not methods of it
_HARMLESS = ("importlib.", "logging")
"""An import reads code, and a line in a log has a time: neither decides a result."""


def unwatched(function: Callable[..., T], *args: Any) -> T:
    """Call a function with the audit off."""
    hook = sys.getprofile()
    if not callable(hook):  # none, or a profiler in C, which could not be put back: it watches jobs like all else
        return function(*args)
    sys.setprofile(None)
    try:
        return function(*args)
    finally:
        sys.setprofile(hook)


@contextlib.contextmanager
def audit() -> Iterator[None]:
    """Watch the code within.

    Raises:
        ConfigError: from the forbidden call itself; names the function, its file and line, and what is right instead. Raised
            again at the end if somebody caught it (Python drops a profile hook that raises, so only the first is seen).
            And at once where a profiler has the hook.
    """
    if sys.getprofile() is not None and not callable(sys.getprofile()):
        raise ConfigError("audit mode and a profiler both want Python's one profile hook: run without the profiler")
    found: list[ConfigError] = []
    originals = {name: getattr(np.random, name) for name in dir(np.random) if _is_global(name)}
    before = sys.getprofile()
    try:
        for name, function in originals.items():
            setattr(np.random, name, _guarded(name, function, found))
        sys.setprofile(functools.partial(_watch, found))
        yield
    finally:
        sys.setprofile(before)
        for name, function in originals.items():
            setattr(np.random, name, function)
    if found:
        raise found[0]


def _is_global(name: str) -> bool:
    bound_to = getattr(getattr(np.random, name), "__self__", None)
    return name in _NUMPY_FUNCTIONS or isinstance(bound_to, np.random.RandomState)


def _guarded(name: str, function: Callable[..., Any], found: list[ConfigError]) -> Callable[..., Any]:
    @functools.wraps(function)
    def guarded(*args: Any, **options: Any) -> Any:
        _blame(found, sys._getframe(1), f"np.random.{name}", "global randomness (use node.rng)")
        return function(*args, **options)

    return guarded


def _watch(found: list[ConfigError], frame: FrameType, event: str, called: Any) -> None:
    if event == "c_call" and (why := _why(called)) is not None:
        _blame(found, frame, getattr(called, "__qualname__", repr(called)), why)


def _why(called: Any) -> str | None:
    """Why a builtin is forbidden; None: it is not."""
    name, module, owner = called.__name__, called.__module__, getattr(called, "__self__", None)
    if module in _FORBIDDEN:
        why, names = _FORBIDDEN[module]
        return why if name in names else None
    if isinstance(owner, type) and name in _CLOCK_METHODS and owner.__module__ == "datetime":
        return "the wall clock (use node.clock)"
    if owner is _GLOBAL_RANDOM:
        return "global randomness (use node.rng)"
    return None


def _blame(found: list[ConfigError], frame: FrameType | None, what: str, why: str) -> None:
    """Raise, and add to `found`, if the nearest caller that is not a library is not allowed to do that."""
    collecting = {getattr(callback, "__code__", None) for callback in gc.callbacks}
    while frame is not None:
        if frame.f_code in collecting:
            return  # garbage is collected wherever it becomes too much: who watches that was not called by who runs there
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith(_HARMLESS) or (module.startswith(_OURS) and not module.startswith(_AUDITED)):
            return
        if not frame.f_code.co_filename.startswith(_LIBRARIES):
            place = f"{frame.f_code.co_qualname} ({frame.f_code.co_filename}, line {frame.f_lineno})"
            found.append(ConfigError(f"{place} calls {what}: a paradigm must not touch {why}"))
            raise found[-1]
        frame = frame.f_back
