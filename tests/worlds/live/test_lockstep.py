"""The same run in both worlds: simulated in one loop, and live with a process for every node, over real sessions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kuberml.core.errors import ConfigError
from kuberml.core.ids import NodeId
from kuberml.core.units import NS
from kuberml.paradigms import PARADIGMS as BUILT_IN
from kuberml.scenario.config import Config, parse
from kuberml.scenario.lockstep import LiveLockstep, simulated_lockstep

PARADIGMS: dict[str, dict[str, Any]] = {
    "kuber-statistics": {"use": "kuber", "looks": 2},
    "kuber-gathered": {"use": "kuber", "looks": 2, "gather": True, "patience_s": 60.0},
    "local": {"epochs": 1},
    "centralised": {"epochs": 1},
    "fedavg": {"rounds": 2},
    "fedavg-head": {"rounds": 2},
    "fed3r": {},
    "one-shot": {"epochs": 1},
    "fedprox": {"rounds": 2},
    "scaffold": {"rounds": 2},
    "fedadam": {"rounds": 2},
    "fedyogi": {"rounds": 2},
    "feddf": {"rounds": 2},
    "fedasync": {"updates": 6},
    "fedbuff": {"updates": 6, "buffer": 2},
    "dpsgd": {"rounds": 2, "patience_s": 30.0},
    "adpsgd": {"rounds": 2},
    "epidemic": {"rounds": 2, "patience_s": 30.0},
    "divshare": {"rounds": 2, "iteration_s": 1.0},
    "aedfl": {"rounds": 2},
    "split": {"rounds": 2, "batch": 64},
    "split-u": {"use": "split", "rounds": 1, "batch": 64, "labels": "stay"},
    "splitfed": {"rounds": 2, "batch": 64},
    "splitfed-2": {"use": "splitfed", "rounds": 1, "batch": 64, "variant": 2},
    "fedproto": {"rounds": 2},
    "fedpft": {"min_class_count": 2},
    "qkt": {"teachers": 2, "patience_s": 60.0},
    "frozen": {"rounds": 1},
    "sequential": {"rounds": 1},
    "fedavg-replay": {"rounds": 1},
    "joint": {"epochs": 1},
    "continual": {"quiet_s": 5.0},
}
TWO_LAYERS = {"count": 4, "models": ["mlp"], "options": {"mlp": {"hidden": [16, 8]}}}
LEARNERS = dict.fromkeys(("split", "split-u", "splitfed", "splitfed-2"), TWO_LAYERS)
"""Where the linear model of the others will not do: it cannot be cut."""
TREE: dict[str, Any] = {
    "name": "both worlds",
    "data": {"partition": "labels", "options": {"per_learner": 4}, "public": 60, "limit": 300},
    "learners": {"count": 4, "models": ["linear"]},
    "extractor": {"name": "identity"},
    "world": {"until_s": 1200},
    "paradigms": PARADIGMS,
}
WEIGHTS = {"fedavg": ("server",), "dpsgd": ("n0", "n1", "n2", "n3")}
"""Who remembers weights; elsewhere the served predictors are all that is learned."""


def scenario(**changes: Any) -> Config:
    return parse({**TREE, **changes})


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveLockstep]:
    with LiveLockstep(tmp_path_factory.mktemp("live")) as processes:
        yield processes
    assert {process.returncode for process in processes.troupe.processes.values()} == {0}


def test_every_paradigm_is_played_here() -> None:
    """Every one of ours; a package that is installed beside us may offer more."""
    ours = {name for name in BUILT_IN.names() if BUILT_IN.get(name).__name__.startswith("kuberml.")}
    assert ours == {options.get("use", label) for label, options in PARADIGMS.items()}


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_a_paradigm_comes_to_the_same_in_both_worlds(paradigm: str, live: LiveLockstep) -> None:
    """Equal for every node: all it saw and computed, in order and time; what it served; its memory, cards, bytes and flops."""
    config = scenario(learners=LEARNERS.get(paradigm, TREE["learners"]), paradigms={paradigm: PARADIGMS[paradigm]})
    here, there = simulated_lockstep(config, paradigm, 0), live.run(config, paradigm, 0)
    assert there == here
    assert there.finished
    learners = [there.nodes[node] for node in ("n0", "n1", "n2", "n3")]  # type: ignore[index]
    assert all(learner.deployed for learner in learners)
    assert all(learner.received_bytes > 1000 for learner in learners) or paradigm in ("local", "centralised")
    assert not any(node.gave_up for node in there.nodes.values())
    for node in WEIGHTS.get(paradigm, ()):
        assert {"weights", "state"} & there.nodes[node].memory.keys()  # type: ignore[index]


def test_data_come_at_the_same_time_in_both_worlds(live: LiveLockstep) -> None:
    stream = {**TREE["data"], "stream": {"tasks": 2, "every_s": 30}}
    here, there = (play(scenario(data=stream), "sequential", 1) for play in (simulated_lockstep, live.run))
    assert there == here
    assert there.finished
    assert there.nodes[NodeId("server")].deployed[-1][0] > 30 * NS


def test_another_seed_comes_to_something_else_in_both_worlds(live: LiveLockstep) -> None:
    """And with it the comparison can fail."""
    label = "kuber-statistics"
    audited = scenario(world={"until_s": 1200, "audit": True})
    first, here, there = (
        simulated_lockstep(scenario(), label, 0),
        simulated_lockstep(audited, label, 1),
        live.run(audited, label, 1),
    )
    assert there == here
    for node, end in there.nodes.items():
        if node.startswith("n"):
            assert not {model for _, model in end.deployed} & {model for _, model in first.nodes[node].deployed}
            assert end.trace_hash != first.nodes[node].trace_hash


def test_time_ends_both_worlds_at_the_same_step(live: LiveLockstep) -> None:
    config = scenario(world={"until_s": 20.005})
    here, there = simulated_lockstep(config, "kuber-statistics", 2), live.run(config, "kuber-statistics", 2)
    assert there == here
    assert (there.finished, there.virtual_time_ns) == (False, 20_010_000_000)


def test_a_run_never_begins_in_the_vaults_of_another(live: LiveLockstep) -> None:
    live.run(scenario(), "local", 7)
    with pytest.raises(ConfigError, match=r"local\.7 is there already"):
        live.run(scenario(), "local", 7)


def test_letters_that_come_late_and_out_of_order_change_nothing(tmp_path: Path) -> None:
    config = scenario(learners={"count": 3, "models": ["linear"]}, places={"topology": "complete"})
    with LiveLockstep(tmp_path, member="tests.worlds.live.late_member") as late:
        assert late.run(config, "kuber-statistics", 0) == simulated_lockstep(config, "kuber-statistics", 0)
