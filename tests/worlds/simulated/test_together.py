"""Fits in stacks, through a whole world; on a CPU, where nothing chooses them."""

import numpy as np
import pytest

from kuberml.core.values import dumps
from kuberml.learning.jobs import fit
from kuberml.learning.torch_learner import TorchLearner
from kuberml.learning.types import DataRef, FitPlan
from kuberml.worlds.simulated.results import JobCache
from kuberml.worlds.simulated.together import Together
from kuberml.worlds.simulated.workers import Here, Workers, open_reply
from tests.scenario.small import SMALL
from tests.worlds.simulated.little import world
from tests.worlds.simulated.test_contracts import TestSimulatedCompute

pytest.importorskip("torch", reason="needs the extra 'torch'")
LEARNER = TorchLearner("mlp", (8, 8, 1), tuple("0123456789"), {"hidden": [16]})
NODES = ("a", "b", "c", "d", "e")


class TestComputeInStacks(TestSimulatedCompute):
    workers = Together(devices=("cpu",), group=4)  # type: ignore[assignment]


def data(number: int, size: int = 40) -> DataRef:
    return DataRef("digits", "train", np.arange(number * size, (number + 1) * size, dtype=np.int32))


def learned(workers: Workers, cache: JobCache | None = None):
    """Five nodes fit at once, twice."""
    here = world(*NODES, workers=workers, job_cache=cache)

    async def node(index: int) -> bytes:
        state = LEARNER.init(index)
        for turn in range(2):
            state = await here.compute(NODES[index]).run(fit, LEARNER, state, data(index), FitPlan(0.1, 5), turn)
        return state.tobytes()

    return here.run({name: lambda index=index: node(index) for index, name in enumerate(NODES)})


def test_a_world_in_stacks_is_the_same_world_within_rounding_and_has_its_own_hash():
    alone, workers = learned(Here()), Together(devices=("cpu",), group=4)
    together = learned(workers)
    assert workers.groups == 3, "ten fits in stacks of four: a node's second joins the others' first"
    assert together.integer_hash == alone.integer_hash
    assert together.trace_hash != alone.trace_hash
    assert together.trace_hash == learned(Together(devices=("cpu",), group=4)).trace_hash
    for node in NODES:
        ours, theirs = (np.frombuffer(found.results[node], np.float32) for found in (together, alone))
        assert np.abs(ours - theirs).max() < 1e-5


def test_results_of_both_ways_are_kept_apart_and_a_resumed_run_ends_in_its_own_hash(tmp_path):
    cache = JobCache(tmp_path / "jobs.sqlite")
    try:
        alone = learned(Here(), cache)
        together = learned(Together(devices=("cpu",), group=4), cache)
        again = learned(Together(devices=("cpu",), group=4), cache)
    finally:
        cache.close()
    assert together.jobs_executed == 10, "nothing of the other way was taken"
    assert again.jobs_executed == 0
    assert again.trace_hash == together.trace_hash != alone.trace_hash


def test_a_cpu_is_never_given_stacks_by_default():
    workers = Together()
    ticket = workers.submit(task(0))
    assert open_reply(workers.result(ticket)).tobytes() == fit(LEARNER, LEARNER.init(0), data(0), FitPlan(0.1, 5), 0).tobytes()
    assert workers.groups == 0


def test_an_error_in_a_stack_is_told_to_whom_it_belongs():
    workers = Together(devices=("cpu",), group=4)
    good, bad = workers.submit(task(0)), workers.submit(task(1, state=np.zeros(3, np.float32)))
    assert open_reply(workers.result(good)).size == LEARNER.size
    with pytest.raises(Exception, match="a state of this model is float32"):
        open_reply(workers.result(bad))


def test_a_scenario_on_a_gpu_that_is_not_here_is_refused(tmp_path):
    import torch

    from kuberml.core.errors import ConfigError
    from kuberml.scenario.config import parse
    from kuberml.scenario.run import run_scenario

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    tree = {**SMALL, "learners": {**SMALL["learners"], "device": "cuda"}, "paradigms": {"fedavg": {"rounds": 1}}}
    with pytest.raises(ConfigError, match="device 'cuda' is not here"):
        run_scenario(parse(tree), out=tmp_path)


def task(number: int, state: np.ndarray | None = None) -> bytes:
    start = LEARNER.init(number) if state is None else state
    return dumps([fit.job_name, [LEARNER, start, data(number), FitPlan(0.1, 5), number]])
