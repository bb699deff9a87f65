"""Paradigms around a server when somebody crashes, leaves, lies on the wire; and the same on any number of workers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kuberml.core.values import loads
from kuberml.scenario.config import parse
from kuberml.scenario.play import Play
from kuberml.scenario.result_files import read_result
from kuberml.scenario.run import run_scenario
from kuberml.scenario.stage import SERVER
from tests.scenario.small import SMALL, ran
from tests.scenario.test_faults import FAULTS

HONEST = {**SMALL, "learners": {"count": 4, "models": ["linear"]}}
ROUNDS: dict[str, dict[str, Any]] = {
    "fedprox": {"rounds": 4, "deadline_s": 20.0},
    "scaffold": {"rounds": 4, "deadline_s": 20.0},
    "fedadam": {"rounds": 4, "deadline_s": 20.0},
    "fedyogi": {"rounds": 4, "deadline_s": 20.0},
    "feddf": {"rounds": 4, "deadline_s": 20.0},
}
WITHOUT: dict[str, dict[str, Any]] = {
    "fedasync": {"updates": 24, "deadline_s": 20.0, "rest_s": 2.0},
    "fedbuff": {"updates": 24, "buffer": 4, "deadline_s": 20.0, "rest_s": 2.0},
}


def remembered(play: Play) -> dict[str, Any]:
    return {name: loads(data) for name, data in play.world.store(SERVER).memory().items()}


@pytest.mark.parametrize("at_s", [0.4, 0.9, 1.6, 2.3])
@pytest.mark.parametrize("name", ROUNDS)
def test_rounds_end_the_same_although_the_server_crashes(name: str, at_s: float) -> None:
    """What it had not committed it does again, and the clients with it: moments and controls are those of a quiet run."""
    crash = {"at_s": at_s, "what": "crash", "nodes": ["server"]}
    quiet = ran({**HONEST, "paradigms": {name: ROUNDS[name]}})
    shaken = ran({**HONEST, "paradigms": {name: ROUNDS[name]}, "faults": [crash]})
    before, after = remembered(quiet), remembered(shaken)
    assert after["round"] == 4
    assert {"fedadam": {"m", "v"}, "fedyogi": {"m", "v"}, "scaffold": {"control"}}.get(name, set()) <= after.keys()
    for entry in after:
        np.testing.assert_array_equal(after[entry], before[entry], err_msg=entry)
    said = [note.fields for note in shaken.notes.of("published") if note.fields["slot"] in ("update", "global")]
    assert {one["version"] for one in said if one["slot"] == "global"} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("nodes", [["server"], ["n0", "n1", "n2", "n3"], ["server", "n0", "n1", "n2", "n3"]], ids=len)
@pytest.mark.parametrize("name", WITHOUT)
def test_without_rounds_every_update_is_taken_once_although_all_crash(name: str, nodes: list[str]) -> None:
    crashes = [{"at_s": at_s, "what": "crash", "nodes": nodes} for at_s in (0.5, 1.1, 1.7)]
    play = ran({**HONEST, "paradigms": {name: WITHOUT[name]}, "faults": crashes})
    memory = remembered(play)
    assert memory["taken"] == 24
    assert memory["version"] == {"fedasync": 24, "fedbuff": 6}[name]
    final = memory["weights"]
    for actor in play.stage.learners:
        model = play.watch.serving(actor.node, 1 << 62)
        assert model is not None
        np.testing.assert_array_equal(play.watch.predictors[model].state, final)
    mine = [(note.node, note.fields["version"]) for note in play.notes.of("published") if note.node != "server"]
    assert len(mine) == len(set(mine))  # nothing is said twice in two ways


def test_a_client_that_leaves_holds_nobody_up_and_one_that_joins_takes_part() -> None:
    faults = [
        {"at_s": 0.7, "what": "leave", "nodes": ["n0"]},
        {"at_s": 1.5, "what": "join", "nodes": ["n3"]},
    ]
    play = ran({**HONEST, "paradigms": {"fedasync": {**WITHOUT["fedasync"], "updates": 60}}, "faults": faults})
    assert remembered(play)["taken"] == 60
    published = {node: [n for n in play.notes.of("published") if n.node == node] for node in ("n0", "n1", "n3")}
    assert len(published["n0"]) < len(published["n1"])
    assert len(published["n3"]) > 3


def test_few_train_at_a_time_when_the_cohort_is_small() -> None:
    one = ran({**HONEST, "paradigms": {"fedbuff": {**WITHOUT["fedbuff"], "cohort": 0.25}}})
    updates = [note for note in one.notes.of("published") if note.node != "server"]
    assert len(updates) == 24  # nobody was under way when the last was taken
    assert len({note.node for note in updates}) == 4


@pytest.mark.parametrize("fault", FAULTS)
def test_they_get_through(fault: str, tmp_path: Path) -> None:
    paradigms = {"scaffold": ROUNDS["scaffold"], **WITHOUT}
    result = run_scenario(parse({**SMALL, "paradigms": paradigms, "faults": FAULTS[fault]}), out=tmp_path, workers=1)
    for label, item in result.paradigms.items():
        assert item.accuracy_mean is not None, label
        assert item.accuracy_mean > 0.03


def test_the_number_of_workers_and_the_audit_change_nothing(tmp_path: Path) -> None:
    tree = {**SMALL, "paradigms": {**ROUNDS, **WITHOUT}}
    audited = {**tree, "world": {**SMALL["world"], "audit": True}}
    run_scenario(parse(audited), out=tmp_path / "1", workers=1)
    run_scenario(parse(tree), out=tmp_path / "2", workers=2)
    one, two = ([(run.paradigm, run.trace_hash) for run in read_result(tmp_path / name).runs] for name in "12")
    assert one == two
    assert len({trace for _, trace in one}) == len(one)
