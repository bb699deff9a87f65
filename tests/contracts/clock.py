"""What every `core.seam.Clock` does. An implementation's test subclasses `ClockContract` and says how to run a coroutine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kuberml.core.errors import ConfigError
from kuberml.core.seam import Clock
from kuberml.core.units import NS


class ClockContract:
    """Subclass, and override `run`."""

    def run(self, main: Callable[[Clock], Awaitable[Any]]) -> Any:
        """Run `main(clock)` in a new world to its end and return what it returns."""
        raise NotImplementedError

    def test_time_passes_while_asleep_and_not_less_than_asked(self) -> None:
        async def main(clock: Clock) -> int:
            before = clock.now_ns()
            await clock.sleep(0.01)
            return clock.now_ns() - before

        assert self.run(main) >= 0.01 * NS

    def test_time_is_an_integer_and_never_goes_back(self) -> None:
        async def main(clock: Clock) -> list[int]:
            times = []
            for delay_s in (0, 0.001, 0, 0.002):
                times.append(clock.now_ns())
                await clock.sleep(delay_s)
            return times

        times = self.run(main)
        assert all(type(time) is int for time in times)
        assert times == sorted(times)

    def test_shorter_sleeps_end_first(self) -> None:
        async def main(clock: Clock) -> list[int]:
            woken: list[int] = []

            async def sleeper(hundredths: int) -> None:
                await clock.sleep(hundredths / 100)
                woken.append(hundredths)

            await asyncio.gather(*(sleeper(hundredths) for hundredths in (5, 1, 3)))
            return woken

        assert self.run(main) == [1, 3, 5]

    @pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
    def test_a_time_that_cannot_be_is_refused(self, seconds: float) -> None:
        async def main(clock: Clock) -> None:
            await clock.sleep(seconds)

        with pytest.raises(ConfigError, match="a time must be"):
            self.run(main)

    def test_a_sleep_can_be_cancelled(self) -> None:
        async def main(clock: Clock) -> bool:
            task = asyncio.ensure_future(clock.sleep(3600))
            await clock.sleep(0.001)
            task.cancel()
            await asyncio.wait([task])
            return task.cancelled()

        assert self.run(main)
