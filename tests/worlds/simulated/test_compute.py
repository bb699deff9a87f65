import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kuberml.core.errors import ConfigError
from kuberml.core.values import dumps
from kuberml.worlds.simulated.devices import Device
from kuberml.worlds.simulated.results import JobCache, Remembering
from kuberml.worlds.simulated.workers import Here
from tests.worlds.simulated import jobs
from tests.worlds.simulated.little import MS, A, B, world


def test_a_job_takes_flops_over_speed_rounded_up_to_a_nanosecond() -> None:
    here = world(A, devices={A: Device(name="odd", flops_per_s=3_000_000)})

    async def main() -> int:
        await here.compute(A).run(jobs.work, 1_000_000)
        return here.loop.now_ns

    outcome = here.run({A: main})
    assert outcome.results[A] == 333_333_334
    assert outcome.flops == {A: 1_000_000}


def test_a_device_does_one_job_at_a_time_first_come_first_served() -> None:
    here = world(A, B)
    ended: list[tuple[str, int, int]] = []

    async def one(node: Any, flops: int) -> None:
        await here.compute(node).run(jobs.work, flops)
        ended.append((node, flops, here.loop.now_ns // MS))

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for flops in (3_000_000, 1_000_000):
                for node in (A, B):
                    group.create_task(one(node, flops))

    here.run({A: main})
    assert ended == [("a", 3_000_000, 3000), ("b", 3_000_000, 3000), ("a", 1_000_000, 4000), ("b", 1_000_000, 4000)]


def test_a_cancelled_job_frees_the_device_and_counts_what_it_did() -> None:
    here = world(A)

    async def main() -> int:
        running = asyncio.ensure_future(here.compute(A).run(jobs.work, 10_000_000))
        await asyncio.sleep(2)
        running.cancel()
        await here.compute(A).run(jobs.work, 1_000_000)
        return here.loop.now_ns

    outcome = here.run({A: main})
    assert outcome.results[A] == 3 * 10**9
    assert outcome.flops[A] == 3_000_000
    assert outcome.energy_mj[A] == 3 * 2000 + 3 * 500
    assert outcome.jobs_executed == 1


@pytest.mark.parametrize("flops", [-1, 1.5, True, None])
def test_flops_that_cannot_be_are_refused(flops: Any) -> None:
    here = world(A)
    with pytest.raises(ConfigError, match=r"impossible: flops must be an integer of at least 0"):
        here.run({A: lambda: here.compute(A).run(jobs.impossible, flops)})


def test_a_device_without_speed_is_refused() -> None:
    with pytest.raises(ConfigError, match="flops_per_s must be at least 1, not 0"):
        world(A, devices={A: Device(name="brick", flops_per_s=0)})


@pytest.mark.parametrize("workers", [1, 2])
def test_identical_jobs_run_once(tmp_path: Path, workers: int) -> None:
    here = world(A, B, workers=workers)

    async def main(node: Any) -> None:
        for number in (1, 2, 1):
            await here.compute(node).run(jobs.leaves_a_mark, str(tmp_path), number)

    outcome = here.run({A: lambda: main(A), B: lambda: main(B)})
    assert outcome.jobs_executed == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1-0", "2-0"]


def test_a_resumed_run_replays_what_is_remembered_and_ends_in_the_same_trace(tmp_path: Path) -> None:
    def run(seeds: int, cache: JobCache | None) -> Any:
        here = world(A, job_cache=cache)

        async def main() -> None:
            model = jobs.Model(np.eye(30, dtype=np.float32))
            for seed in range(seeds):
                model = await here.compute(A).run(jobs.step, model, seed)

        return here.run({A: main})

    path = tmp_path / "jobs.sqlite"
    cache = JobCache(path)
    assert run(3, cache).jobs_executed == 3
    cache.close()
    cache = JobCache(path)
    assert len(cache) == 3
    resumed, fresh = run(5, cache), run(5, None)
    cache.close()
    assert (resumed.jobs_executed, fresh.jobs_executed) == (2, 5)
    assert resumed.trace_hash == fresh.trace_hash
    assert resumed.virtual_time_ns == fresh.virtual_time_ns


def test_a_cache_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is no database, however long one looks at it" * 100)
    for path in (tmp_path / "text", tmp_path / "no" / "such" / "folder"):
        with pytest.raises(ConfigError, match="job cache"):
            JobCache(path)


def test_memory_of_results_is_bounded_and_errors_are_not_remembered() -> None:
    workers = Remembering(Here(), memory_bytes=100)
    tasks = [jobs_task("work", number) for number in range(50)]
    for task in (*tasks, *tasks):
        workers.result(workers.submit(task))
    assert workers.executed == 100
    for _ in range(2):
        workers.result(workers.submit(jobs_task("lacks_an_extra")))
    assert workers.executed == 102


def jobs_task(name: str, *inputs: Any) -> bytes:
    return dumps([f"tests.worlds.simulated.jobs:{name}", list(inputs)])
