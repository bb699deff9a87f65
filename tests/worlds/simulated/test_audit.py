import asyncio
import contextlib
import cProfile
import datetime
import gc
import os
import random
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest

from kuberml.core.errors import ConfigError
from kuberml.core.rng import rng
from kuberml.worlds.simulated.audit import audit, unwatched
from tests.worlds.simulated import jobs
from tests.worlds.simulated.little import A, world


def in_a_world(function: Callable[[], Any]) -> Any:
    """Call it in a node of an audited world."""
    here = world(A, audit=True)

    async def main() -> Any:
        await asyncio.sleep(1)
        return function()

    return here.run({A: main}).results[A]


OFFENDERS: dict[str, tuple[Callable[[], Any], str]] = {
    # lambdas, so that this file is the caller
    "time.time": (lambda: time.time(), "wall clock"),  # noqa: PLW0108
    "monotonic by name": (lambda: monotonic(), "wall clock"),  # noqa: PLW0108
    "perf_counter_ns": (lambda: time.perf_counter_ns(), "wall clock"),  # noqa: PLW0108
    "datetime.now": (lambda: datetime.datetime.now(tz=datetime.UTC), "wall clock"),
    "date.today": (lambda: datetime.date.today(), "wall clock"),  # noqa: DTZ011, PLW0108
    "time.sleep": (lambda: time.sleep(0), "wall clock"),
    "random.random": (lambda: random.random(), "global randomness"),  # noqa: PLW0108
    "random.shuffle": (lambda: random.shuffle([1, 2, 3]), "global randomness"),
    "np.random.rand": (lambda: np.random.rand(3), "global randomness"),
    "np.random.seed": (lambda: np.random.seed(1), "global randomness"),
    "unseeded generator": (lambda: np.random.default_rng(), "files or processes"),  # noqa: PLW0108
    "os.urandom": (lambda: os.urandom(4), "files or processes"),
    "a thread": (lambda: threading.Thread(target=print).start(), "threads"),
    "open": (lambda: open(__file__), "files"),  # noqa: SIM115
    "pathlib": (lambda: Path(__file__).read_text(), "files"),
    "sqlite": (lambda: sqlite3.connect(":memory:"), "files"),
}


@pytest.mark.parametrize("name", OFFENDERS)
def test_an_offender_is_named(name: str) -> None:
    function, why = OFFENDERS[name]
    with pytest.raises(ConfigError, match=rf"<lambda> \({__file__}, line \d+\) calls .*must not touch.*{why}"):
        in_a_world(function)


@pytest.mark.parametrize(
    "function",
    [
        lambda: rng(1, "mine").random(),
        lambda: random.Random(7).random(),
        lambda: np.random.default_rng(7).random(),
        lambda: __import__("colorsys").rgb_to_hsv(1, 0, 0),
        lambda: sorted([3, 1, 2]),
    ],
    ids=["our streams", "seeded random", "seeded generator", "an import", "anything else"],
)
def test_what_is_harmless_passes(function: Callable[[], Any]) -> None:
    assert in_a_world(function) == function()


def test_jobs_may_what_paradigms_may_not() -> None:
    here = world(A, audit=True)
    assert here.run({A: lambda: here.compute(A).run(jobs.touches_the_clock)}).results[A]


def test_afterwards_everything_is_as_before() -> None:
    before = (np.random.rand, sys.getprofile())
    with pytest.raises(ZeroDivisionError), audit():
        raise ZeroDivisionError
    assert (np.random.rand, sys.getprofile()) == before
    assert time.time() > 0


def test_an_audited_run_ends_in_the_same_trace() -> None:
    def run(watched: bool) -> str:
        here = world(A, audit=watched)
        return here.run({A: lambda: here.compute(A).run(jobs.work, 10)}).trace_hash

    assert run(True) == run(False)


def test_who_catches_the_complaint_does_not_get_away_with_it() -> None:
    def swallows() -> None:
        with contextlib.suppress(Exception):
            time.time()

    with pytest.raises(ConfigError, match="wall clock"):
        in_a_world(swallows)


def test_what_watches_the_garbage_collector_is_not_the_paradigm_s_doing() -> None:
    """Tools measure collections with the wall clock; they are called in the middle of whoever runs then."""
    seen: list[float] = []

    def watches(phase: str, info: dict[str, int]) -> None:
        seen.append(time.perf_counter())

    gc.callbacks.append(watches)
    try:
        in_a_world(gc.collect)
    finally:
        gc.callbacks.remove(watches)
    assert len(seen) >= 2


def test_a_profiler_sees_jobs_and_is_still_there_after_them() -> None:
    with cProfile.Profile() as profiler:
        assert unwatched(max, 1, 2) == 2
        assert sys.getprofile() is profiler


def test_an_audit_beside_a_profiler_says_so() -> None:
    with cProfile.Profile() as profiler:
        with pytest.raises(ConfigError, match="without the profiler"), audit():
            pass
        assert sys.getprofile() is profiler
