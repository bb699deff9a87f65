"""What every `core.seam.Compute` does. A test of an implementation subclasses `ComputeContract` and overrides `run`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.jobs import job
from kuberml.core.seam import Compute


@job(flops=lambda x_N, factor: x_N.size)
def scaled(x_N: np.ndarray, factor: float) -> np.ndarray:
    return x_N * factor


@job(flops=lambda kind: 1)
def failing(kind: str) -> None:
    raise {"value": ValueError, "remote": RemoteError}[kind]("the job failed")


@job(flops=lambda: 1)
def nested() -> dict[str, Any]:
    return {"a": (1, 2.5, None), "b": [np.arange(3), "x", b"y"]}


def not_a_job() -> None:
    """Not marked."""


class ComputeContract:
    """Subclass, and override `run`."""

    def run(self, main: Callable[[Compute], Awaitable[Any]]) -> Any:
        """Run `main(compute)` in a new world to its end and return what it returns."""
        raise NotImplementedError

    def test_a_job_returns_its_value(self) -> None:
        async def main(compute: Compute) -> Any:
            return await compute.run(scaled, np.arange(4, dtype=np.float32), 2.0)

        result = self.run(main)
        assert result.dtype == np.float32
        assert result.tolist() == [0, 2, 4, 6]

    def test_values_keep_their_types(self) -> None:
        async def main(compute: Compute) -> Any:
            return await compute.run(nested)

        result = self.run(main)
        assert result["a"] == (1, 2.5, None)
        assert result["b"][0].tolist() == [0, 1, 2]
        assert result["b"][1:] == ["x", b"y"]

    def test_inputs_are_frozen_when_the_job_is_handed_in(self) -> None:
        async def main(compute: Compute) -> Any:
            x_N = np.ones(3)
            running = asyncio.ensure_future(compute.run(scaled, x_N, 1.0))
            await asyncio.sleep(0)
            x_N[:] = 7
            return await running

        assert self.run(main).tolist() == [1, 1, 1]

    @pytest.mark.parametrize(("kind", "error"), [("value", ValueError), ("remote", RemoteError)])
    def test_what_a_job_raises_comes_back(self, kind: str, error: type[Exception]) -> None:
        async def main(compute: Compute) -> None:
            with pytest.raises(error, match="the job failed"):
                await compute.run(failing, kind)

        self.run(main)

    def test_a_function_that_is_not_a_job_is_refused(self) -> None:
        async def main(compute: Compute) -> None:
            with pytest.raises(ConfigError, match="mark it with @job"):
                await compute.run(not_a_job)  # type: ignore[arg-type]

        self.run(main)

    def test_many_jobs_at_once_get_their_own_results(self) -> None:
        async def main(compute: Compute) -> list[float]:
            jobs = (compute.run(scaled, np.ones(1), float(number)) for number in range(20))
            return [float(result[0]) for result in await asyncio.gather(*jobs)]

        assert self.run(main) == list(range(20))
