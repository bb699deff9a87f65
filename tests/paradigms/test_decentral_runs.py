"""Decentralised paradigms as whole runs: the same on any number of workers; what strangers may not send; whom they serve."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kuberml.core.errors import RemoteError
from kuberml.core.ids import NodeId
from kuberml.exchange.pulled import _read, packed
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.pack import make
from kuberml.knowledge.signing import Keys
from kuberml.knowledge.want import Offer
from kuberml.paradigms.divshare import fragment_of
from kuberml.scenario.config import parse
from kuberml.scenario.result_files import read_result, read_runs
from kuberml.scenario.run import run_scenario
from tests.scenario.small import SMALL

MASKS = {"every": 1, "warm_up": 1, "slope": 1.0, "refresh": 2}
ALL: dict[str, dict[str, Any]] = {
    "adpsgd": {"rounds": 3, "corrected": True},
    "epidemic": {"rounds": 2, "peers": 2},
    "divshare": {"rounds": 3},
    "aedfl": {"rounds": 4, "masks": MASKS},
}


def test_runs_are_the_same_on_one_worker_and_two_and_pass_the_audit(tmp_path: Path) -> None:
    for workers in (1, 2):
        tree = {**SMALL, "paradigms": ALL, "world": {**SMALL["world"], "audit": workers == 1}}
        run_scenario(parse(tree), out=tmp_path / str(workers), workers=workers)
    one, two = (read_result(tmp_path / str(workers)) for workers in (1, 2))
    assert one.runs == two.runs
    assert len({run.trace_hash for run in one.runs}) == len(ALL)
    for run in read_runs(tmp_path / "1"):
        assert run.accuracy_slow is not None
        assert run.accuracy_fast is not None
        result = one.paradigms[run.paradigm]
        assert result.bias == pytest.approx(run.accuracy_fast - run.accuracy_slow)


def test_the_bias_is_read_off_slow_and_fast_devices_data(tmp_path: Path) -> None:
    """Whoever has digits of one half only, and learns alone, knows nothing of the other's."""
    tree = {**SMALL, "data": {"partition": "labels", "public": 60}, "learners": {"count": 6, "models": ["linear"]}}
    run_scenario(parse({**tree, "paradigms": {"local": {"epochs": 5}}}), out=tmp_path, workers=1)
    (run,) = read_runs(tmp_path)
    mean = np.mean(list(run.accuracy_own.values()))
    assert run.accuracy_slow is not None
    assert run.accuracy_slow < mean, "its own data are a part of these, others' are not known here"
    equal = {**tree, "places": {"devices": "hospital"}, "paradigms": {"local": {"epochs": 1}}}
    run_scenario(parse(equal), out=tmp_path / "equal", workers=1)
    assert read_result(tmp_path / "equal").paradigms["local"].bias is None


def offer(content: Weights) -> Offer:
    signed = make("weights", content, keys=Keys(bytes(32)), task="t", slot="model", version=3, learned_at_ms=0).signed
    return Offer(signed, (NodeId("n1"),), 0, 0, 0)


def test_what_is_pulled_is_checked() -> None:
    state = np.arange(10, dtype=np.float32)
    good = packed(state, None, 1.5, {"n0": 0.25, "n2": 0.5}, {"3": 7})
    read = _read(NodeId("n0"), offer(good), good, 10)
    assert (read.version, read.samples, read.degree, read.ratio, read.weight) == (3, 7, 2, 1.5, 0.25)
    fresh = packed(state, None, 1.0, {"n0": 0.0}, {"3": 7})
    assert _read(NodeId("n0"), offer(fresh), fresh, 10).weight is None
    for wrong in (
        packed(state[:9], None, 1.0, {}, {"3": 7}),
        packed(state, None, -1.0, {}, {"3": 7}),
        packed(state, None, 1e9, {}, {"3": 7}),
        packed(state, None, 1.0, {"n0": 1.5}, {"3": 7}),
        packed(state, None, 1.0, {}, {}),
        Weights({"state": state}, {"3": 7}),
        Weights({"state": state, "ratio": np.ones(2)}, {"3": 7}),
    ):
        with pytest.raises(RemoteError):
            _read(NodeId("n0"), offer(wrong), wrong, 10)
    assert fragment_of("fragment 12") == 12
    for slot in ("fragment", "fragment -1", "fragment 1e3", "model 1", "fragment 12345678901"):
        with pytest.raises(RemoteError, match="names no fragment"):
            fragment_of(slot)
