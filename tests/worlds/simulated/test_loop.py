import asyncio
import gc
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core.errors import ConfigError, InternalError
from kuberml.worlds.simulated import loop as loops
from kuberml.worlds.simulated.loop import VirtualLoop


def test_waiting_costs_virtual_time_only() -> None:
    loop = VirtualLoop()

    async def main() -> float:
        async with asyncio.timeout(10**9):
            await asyncio.sleep(365 * 24 * 3600)
        return asyncio.get_running_loop().time()

    assert loop.run(main()) == 365 * 24 * 3600
    assert loop.now_ns == 365 * 24 * 3600 * 10**9


@given(st.lists(st.integers(0, 5), max_size=40))
@settings(max_examples=30, derandomize=True)
def test_timers_fire_by_deadline_then_by_creation(deadlines: list[int]) -> None:
    loop, fired = VirtualLoop(), []

    async def main() -> None:
        for number, deadline in enumerate(deadlines):
            loop.call_at(deadline, fired.append, (deadline, number))
        await asyncio.sleep(6)

    loop.run(main())
    assert fired == sorted(fired)
    assert len(fired) == len(deadlines)


def test_what_a_timer_sets_off_ends_before_the_next_one_of_that_instant() -> None:
    loop, order = VirtualLoop(), []

    async def follow(name: str) -> None:
        for step in range(3):
            order.append((name, step))
            await asyncio.sleep(0)

    async def main() -> None:
        tasks: list[asyncio.Task[None]] = []
        for name in "ab":
            loop.call_at(1, lambda name=name: tasks.append(loop.create_task(follow(name))))
        await asyncio.sleep(2)

    loop.run(main())
    assert order == [(name, step) for name in "ab" for step in range(3)]


def test_a_cancelled_timer_does_not_fire_and_does_not_move_time() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        loop.call_later(5, pytest.fail, "fired").cancel()
        await asyncio.sleep(1)

    loop.run(main())
    assert loop.now_ns == 10**9


def test_many_cancelled_timers_are_forgotten() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        for _ in range(10_000):
            loop.call_later(10**6, pytest.fail, "fired").cancel()
            await asyncio.sleep(0.001)
        assert len(loop._timers) < 3000

    loop.run(main())


def test_a_deadlock_is_an_error_that_names_who_waits() -> None:
    async def wait_for_nobody() -> None:
        await asyncio.Event().wait()

    with pytest.raises(InternalError, match=r"deadlock at 3\.0 s.*_after line \d+ > .*wait_for_nobody line \d+ > Event\.wait"):
        VirtualLoop().run(_after(3, wait_for_nobody()))


def test_an_instant_that_never_ends_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "MAX_TURNS", 1000)

    async def tick() -> None:
        while True:  # noqa: ASYNC110 - on purpose
            await asyncio.sleep(1e-12)

    with pytest.raises(InternalError, match="time stands still"):
        VirtualLoop().run(tick())


def test_who_spins_is_named_and_who_waits_is_not() -> None:
    async def spin() -> None:
        while True:  # noqa: ASYNC110 - on purpose
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.sleep(1)
        await asyncio.get_running_loop().create_task(spin(), name="busy")

    with pytest.raises(InternalError, match=r"time stands still at 1\.0 s: a task never waits\. 1 task: busy \(.*spin line"):
        VirtualLoop().run(main())


def test_an_error_in_a_callback_ends_the_run() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_later(1, lambda: 1 / 0)
        await asyncio.sleep(100)

    loop = VirtualLoop()
    with pytest.raises(ZeroDivisionError):
        loop.run(main())
    assert loop.now_ns == 10**9


def test_an_error_keeps_its_cause() -> None:
    def fail() -> None:
        raise ValueError("what is seen") from KeyError("why")

    async def main() -> None:
        asyncio.get_running_loop().call_later(1, fail)
        await asyncio.sleep(1)

    with pytest.raises(ValueError, match="what is seen") as caught:
        VirtualLoop().run(main())
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_error_in_a_task_that_nobody_awaits_ends_the_run() -> None:
    async def fail() -> None:
        raise ValueError("nobody looks")

    async def main() -> None:
        task = asyncio.get_running_loop().create_task(fail())
        await asyncio.sleep(1)
        del task
        gc.collect()
        await asyncio.sleep(100)

    with pytest.raises(ValueError, match="nobody looks"):
        VirtualLoop().run(main())


def test_threads_are_refused() -> None:
    with pytest.raises(ConfigError, match="make it a job"):
        VirtualLoop().run(asyncio.to_thread(print))


def test_what_is_left_is_cancelled_in_creation_order() -> None:
    order: list[int] = []

    async def stay(number: int) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            order.append(number)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        main.tasks = [loop.create_task(stay(number)) for number in range(50)]  # type: ignore[attr-defined]
        await asyncio.sleep(1)

    VirtualLoop().run(main())
    assert order == list(range(50))


def test_tasks_in_sets_have_an_order_of_their_own() -> None:
    """TaskGroup cancels from a set. The order is the same in every process, whatever the addresses and the hash seed."""
    script = """
import asyncio
from kuberml.worlds.simulated.loop import VirtualLoop
order = []
async def stay(number):
    try:
        await asyncio.sleep(100)
    finally:
        order.append(number)
async def fail():
    await asyncio.sleep(1)
    raise ValueError
async def main():
    litter = [bytes(n) for n in range(JUNK)]
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(stay(number))
            litter.append(object())
        group.create_task(fail())
try:
    VirtualLoop().run(main())
except* ValueError:
    print(order)
"""
    outputs = set()
    for junk in ("7", "4321"):
        code = script.replace("JUNK", junk)
        environment = {"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": junk}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        outputs.add(done.stdout)
    assert len(outputs) == 1
    assert sorted(eval(outputs.pop())) == list(range(20))


@pytest.mark.parametrize("delay", [float("inf"), float("nan")])
def test_a_delay_that_cannot_be_is_refused(delay: float) -> None:
    loop = VirtualLoop()
    with pytest.raises(ConfigError):
        loop.call_later(delay, print)
    loop.close()


async def _after(seconds: float, then: Any) -> None:
    await asyncio.sleep(seconds)
    await then
