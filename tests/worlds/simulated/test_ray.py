"""Workers on a real local Ray cluster: skipped where the extra `ray` is not installed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kuberml.core.errors import ConfigError, InternalError
from kuberml.core.seam import Compute
from kuberml.scenario.config import parse
from kuberml.scenario.run import run_scenario
from kuberml.worlds.simulated.ray_workers import RayWorkers
from kuberml.worlds.simulated.workers import make_workers, open_reply
from tests.contracts.compute import ComputeContract
from tests.scenario.small import SMALL
from tests.worlds.simulated import jobs
from tests.worlds.simulated.little import A, world
from tests.worlds.simulated.test_contracts import _awaited
from tests.worlds.simulated.test_workers import learn_together, task

pytest.importorskip("ray", reason="needs the extra 'ray'")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayWorkers]:
    """A real Ray of two cores on this machine, for all tests here: it takes seconds to start."""
    workers = RayWorkers()
    yield workers
    workers.close()


@pytest.fixture(autouse=True)
def _on_the_cluster(request: pytest.FixtureRequest, cluster: RayWorkers) -> None:
    if request.instance is not None:
        request.instance.workers = cluster


class TestComputeOnRay(ComputeContract):
    workers: RayWorkers

    def run(self, main: Callable[[Compute], Awaitable[Any]]) -> Any:
        here = world(A, workers=self.workers)
        return here.run({A: partial(_awaited, main(here.compute(A)))}).results[A]


def test_the_same_run_goes_on_a_cluster(cluster: RayWorkers) -> None:
    here, there = learn_together(1), learn_together(cluster)
    assert there.trace_hash == here.trace_hash
    assert there.results == here.results


@pytest.mark.usefixtures("cluster")
def test_a_scenario_run_with_workers_ray_has_the_trace_of_one_worker(tmp_path: Path) -> None:
    config = parse({**SMALL, "paradigms": {"fedavg": {"rounds": 1}}})
    one = run_scenario(config, out=tmp_path / "one", workers=1)
    many = run_scenario(config, out=tmp_path / "ray", workers="ray")
    assert many.runs == one.runs
    assert many.paradigms == one.paradigms


def test_a_killed_worker_costs_only_its_running_job(cluster: RayWorkers, tmp_path: Path) -> None:
    dying, marks = tmp_path / "dying", tmp_path / "marks"
    dying.mkdir()
    marks.mkdir()
    tickets = [cluster.submit(task("leaves_a_mark", str(marks), number)) for number in range(3)]
    assert [open_reply(cluster.result(ticket)) for ticket in tickets] == [0, 1, 2]
    dead = cluster.submit(task("dies", str(dying), 1))
    after = [cluster.submit(task("leaves_a_mark", str(marks), number)) for number in range(3, 6)]
    assert open_reply(cluster.result(dead)) == 1, "it ran once more"
    assert [open_reply(cluster.result(ticket)) for ticket in after] == [3, 4, 5]
    assert sorted(path.name for path in marks.iterdir()) == [f"{number}-0" for number in range(6)], "no other ran twice"


def test_a_job_that_kills_its_worker_twice_is_an_error_that_names_it(cluster: RayWorkers, tmp_path: Path) -> None:
    with pytest.raises(InternalError, match=r"jobs:dies killed its worker process twice"):
        cluster.result(cluster.submit(task("dies", str(tmp_path), 2)))


def test_what_waits_here_and_is_dropped_never_runs(cluster: RayWorkers, tmp_path: Path) -> None:
    tickets = [cluster.submit(task("leaves_a_mark", str(tmp_path), number)) for number in range(20)]
    cluster.drop(tickets[19])
    assert [open_reply(cluster.result(ticket)) for ticket in tickets[:19]] == list(range(19))
    assert len(list(tmp_path.iterdir())) == 19


def test_a_missing_extra_on_the_cluster_is_told_as_what_it_is(cluster: RayWorkers) -> None:
    here = world("a", workers=cluster)
    with pytest.raises(ConfigError, match=r"drawing needs the extra 'report'"):
        here.run({"a": lambda: here.compute("a").run(jobs.lacks_an_extra)})


def test_workers_are_a_number_or_ray() -> None:
    with pytest.raises(ConfigError, match="give a number, or 'ray'"):
        make_workers("spark")  # type: ignore[arg-type]
