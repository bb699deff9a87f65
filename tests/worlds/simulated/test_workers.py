import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kuberml.core.errors import ConfigError, InternalError
from kuberml.core.values import dumps, loads
from kuberml.learning.adapters import torch_learner
from kuberml.learning.datasets import DATASETS
from kuberml.learning.jobs import measure
from kuberml.worlds.simulated.workers import Pool, Workers, open_reply
from kuberml.worlds.simulated.world import Outcome, SimulatedWorld
from tests.worlds.simulated import jobs
from tests.worlds.simulated.little import world

NODES = ("a", "b", "c", "d", "e")


def learn_together(workers: int | Workers) -> Outcome:
    """Real float32 products on five nodes of different speed, passed round a ring; every worker count must agree to the bit."""
    here = world(*NODES, workers=workers)

    async def node(index: int) -> bytes:
        me, right = NODES[index], NODES[(index + 1) % len(NODES)]
        inbox: list[jobs.Model] = []

        async def receive(asker: str, body: bytes) -> bytes:
            inbox.append(loads(body))
            return b""

        here.transport(me).serve("model", receive)
        model = jobs.Model(np.full((40 + 10 * (index % 2),) * 2, 0.1, dtype=np.float32))
        for round_ in range(4):
            model = await here.compute(me).run(jobs.step, model, 10 * index + round_)
            await here.transport(me).ask(right, "model", dumps(model), timeout_s=60)
            if inbox and inbox[-1].weights_NN.shape == model.weights_NN.shape:
                model = jobs.Model((model.weights_NN + inbox[-1].weights_NN) / 2)
        return model.weights_NN.tobytes()

    return here.run({name: lambda index=index: node(index) for index, name in enumerate(NODES)})


def test_the_number_of_workers_does_not_show() -> None:
    one, *others = (learn_together(workers) for workers in (1, 2, 4))
    for other in others:
        assert other.trace_hash == one.trace_hash
        assert other.integer_hash == one.integer_hash
        assert other.results == one.results
        assert other.traffic == one.traffic
    assert one.jobs_executed == 20


def test_jobs_of_different_nodes_run_on_different_processes() -> None:
    here = world("a", "b", workers=2)
    outcome = here.run({node: lambda node=node: here.compute(node).run(jobs.process) for node in ("a", "b")})
    assert os.getpid() not in outcome.results.values()


def test_a_worker_has_one_thread_and_does_not_spin() -> None:
    here = world("a", workers=2)
    outcome = here.run({"a": lambda: here.compute("a").run(jobs.environment)})
    assert outcome.results["a"] == {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def test_a_job_whose_worker_dies_runs_once_more(tmp_path: Path) -> None:
    assert dying(tmp_path, deaths=1).results["a"] == 1


def test_a_job_that_kills_its_worker_twice_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(InternalError, match=r"jobs:dies killed its worker process twice"):
        dying(tmp_path, deaths=2)


def dying(folder: Path, deaths: int) -> Outcome:
    here = world("a", workers=2)
    return here.run({"a": lambda: here.compute("a").run(jobs.dies, str(folder), deaths)})


@pytest.mark.parametrize("workers", [1, 2])
def test_a_missing_extra_is_told_as_what_it_is_yours(workers: int) -> None:
    here = world("a", workers=workers)
    with pytest.raises(ConfigError, match=r"drawing needs the extra 'report'"):
        here.run({"a": lambda: here.compute("a").run(jobs.lacks_an_extra)})


def test_no_worker_process_outlives_the_run() -> None:
    here = world("a", workers=2)
    process = here.run({"a": lambda: here.compute("a").run(jobs.process)}).results["a"]
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_pool_does_all_its_tasks_also_those_that_wait_and_forgets_the_dropped(tmp_path: Path) -> None:
    pool = Pool(1)
    try:
        tickets = [pool.submit(task("leaves_a_mark", str(tmp_path), number)) for number in range(6)]
        pool.drop(tickets[3])
        results = [open_reply(pool.result(ticket)) for ticket in (*tickets[:3], *tickets[4:])]
    finally:
        pool.close()
    assert results == [0, 1, 2, 4, 5]
    assert len(list(tmp_path.iterdir())) == 5


def test_workers_are_forks_of_the_one_that_did_the_first_task_and_one_thread_each(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra 'torch'")
    pool = Pool(3)
    learner = torch_learner("linear", DATASETS.get("digits"), {})
    try:
        assert open_reply(pool.result(pool.prime(dumps([f"{measure.__module__}:measure", [learner]])))) == (1280, 650)
        tickets = [pool.submit(task("meets", str(tmp_path), 3)) for _ in range(3)]  # each waits until all three are there
        found = [open_reply(pool.result(ticket)) for ticket in tickets]
    finally:
        pool.close()
    pids, parents, threads, torch_is_here = zip(*found, strict=True)
    assert len(set(pids)) == 3
    assert len({os.getpid(), *parents, *pids}) == 5, "one process that this one started begot all of them"
    assert threads == (1, 1, 1), "else it may not be forked"
    assert all(torch_is_here)
    for process in (*parents, *pids):
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_first_task_that_kills_its_worker_runs_once_more(tmp_path: Path, deaths: int) -> None:
    pool, folders = Pool(2), [tmp_path / name for name in ("dies", "meets")]
    for folder in folders:
        folder.mkdir()
    try:
        first = pool.prime(task("dies", str(folders[0]), deaths))
        if deaths == 2:
            with pytest.raises(InternalError, match="killed its worker process twice"):
                pool.result(first)
            return
        assert open_reply(pool.result(first)) == 1
        tickets = [pool.submit(task("meets", str(folders[1]), 2)) for _ in range(2)]
        assert len({open_reply(pool.result(ticket))[0] for ticket in tickets}) == 2
    finally:
        pool.close()


def test_a_fork_that_works_ends_with_its_pool(tmp_path: Path) -> None:
    pool = Pool(2)
    try:
        assert open_reply(pool.result(pool.prime(task("work", 7)))) == 7
        pool.submit(task("meets", str(tmp_path), 2))  # it waits for a second one in vain
        until_s = time.monotonic() + 60
        while not list(tmp_path.iterdir()):
            assert time.monotonic() < until_s
            time.sleep(0.01)
    finally:
        pool.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int(next(tmp_path.iterdir()).name), 0)


def test_a_fork_that_dies_is_replaced(tmp_path: Path) -> None:
    pool = Pool(3)
    (tmp_path / "dies").mkdir()
    try:
        assert open_reply(pool.result(pool.prime(task("work", 7)))) == 7
        tickets = [pool.submit(task("dies", str(tmp_path / "dies"), 1)), *(pool.submit(task("work", n)) for n in range(6))]
        assert [open_reply(pool.result(ticket)) for ticket in tickets] == [1, *range(6)]
    finally:
        pool.close()


def test_no_workers_is_refused() -> None:
    with pytest.raises(ConfigError, match="workers must be at least 1, not 0"):
        SimulatedWorld([], seed=1, workers=0)


def test_an_error_of_an_unknown_class_comes_back_with_its_text_and_traceback() -> None:
    reply = dumps([False, "somewhere", "OddError", "too odd", {}, "Traceback: line 1"])
    with pytest.raises(InternalError, match="a job raised OddError: too odd") as caught:
        open_reply(reply)
    assert caught.value.__notes__ == ["Traceback: line 1"]


def task(name: str, *inputs: Any) -> bytes:
    return dumps([f"{jobs.__name__}:{name}", list(inputs)])
