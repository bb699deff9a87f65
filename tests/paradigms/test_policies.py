"""Policies in whole runs: who is asked, who is spared, and that off-loading changes where and not what."""

from typing import Any

import numpy as np
import pytest

from kuberml.core.values import loads
from kuberml.scenario.play import Play
from kuberml.scenario.stage import SERVER
from tests.scenario.small import SMALL, ran

PHONES: dict[str, Any] = {**SMALL, "learners": {"count": 6, "models": ["linear"]}, "places": {"devices": "phones"}}
MIXED: dict[str, Any] = {**PHONES, "places": {"devices": "mixed", "topology": "complete"}}


def of(options: dict[str, Any], use: str = "fedavg", tree: dict[str, Any] = PHONES, **more: Any) -> Play:
    rounds = {} if use in ("fedasync", "fedbuff") else {"rounds": 6}
    return ran({**tree, "paradigms": {use: {**rounds, "deadline_s": 60.0, **options}}, **more})


def weights(play: Play) -> Any:
    return loads(play.world.store(SERVER).memory()["weights"])


def updates(play: Play) -> list[str]:
    return [note.node for note in play.notes.of("published") if note.fields["slot"] == "update"]


@pytest.mark.parametrize("policy", ["uniform", "poisson", "energy", "available"])
@pytest.mark.parametrize("use", ["fedavg", "scaffold"])
def test_every_policy_runs_with_rounds(policy: str, use: str) -> None:
    play = of({"policy": policy, "cohort": 0.34}, use)
    assert loads(play.world.store(SERVER).memory()["round"]) == 6
    assert len(updates(play)) == 12 if policy != "poisson" else len(updates(play)) >= 3


@pytest.mark.parametrize("policy", ["energy", "available"])
def test_policies_run_without_rounds(policy: str) -> None:
    play = of({"policy": policy, "cohort": 0.34, "updates": 12}, "fedbuff")
    assert loads(play.world.store(SERVER).memory()["taken"]) == 12


def test_energy_explores_everybody_and_then_prefers_those_with_charge() -> None:
    """With mix 0 only what is left counts: whoever has most is asked most once all are known."""
    play = of({"policy": "energy", "cohort": 0.34, "rounds": 12, "energy": {"mix": 0.0, "explore": 1.0, "least": 0.0}})
    asked = updates(play)
    assert set(asked[:6]) == {f"n{i}" for i in range(6)}  # three rounds of two, nobody twice
    charge = {actor.node: (actor.device.battery_mj or 0) - play.world.energy_mj(actor.node) for actor in play.stage.learners}
    richest = sorted(charge, key=lambda name: -charge[name])[:2]
    assert set(asked[-6:]) == set(richest)


@pytest.mark.parametrize("use", ["fedavg", "fedadam"])
def test_off_loading_changes_where_and_not_what(use: str) -> None:
    here, cloud = of({}, use), of({"offload": {"to": "cloud"}}, use)
    np.testing.assert_array_equal(weights(cloud), weights(here))
    busy = {name: play.world.energy_mj("server") for name, play in (("here", here), ("cloud", cloud))}
    assert cloud.moved_bytes() > here.moved_bytes()  # the samples travel, once
    sent = [note.node for note in cloud.notes.of("published") if note.fields["slot"] == "samples"]
    assert len(sent) == len(set(sent)) == 6
    assert busy["cloud"] >= busy["here"]


def test_off_loading_to_the_edge_goes_to_neighbours_on_mains() -> None:
    here, edge = of({}, tree=MIXED), of({"offload": {"to": "edge"}}, tree=MIXED)
    np.testing.assert_array_equal(weights(edge), weights(here))
    mains = {actor.node for actor in edge.stage.learners if actor.device.battery_mj is None}
    helpers = {note.node for note in edge.notes.of("published") if note.fields["slot"].startswith("for-")}
    assert mains
    assert len(mains) < 6
    assert helpers
    assert helpers <= mains


def test_a_client_and_a_server_that_crash_while_it_is_off_loaded_go_on() -> None:
    crashes = [{"at_s": at_s, "what": "crash", "nodes": ["server", "n1"]} for at_s in (0.6, 1.4, 2.1)]
    quiet, shaken = of({"offload": {"to": "cloud"}}), of({"offload": {"to": "cloud"}}, faults=crashes)
    assert loads(shaken.world.store(SERVER).memory()["round"]) == 6
    assert np.linalg.norm(weights(shaken) - weights(quiet)) < np.linalg.norm(weights(quiet))


def late(rounds: int, use: str = "fedavg", **more: Any) -> Play:
    """Two of six need seconds for what a round leaves half a second for."""
    slow = [{"at_s": 0.0, "what": "slow", "nodes": ["n1", "n2"], "factor": 3000}]
    return of({"deadline_s": 0.5, "rounds": 8, "late": {"rounds": rounds}, **more}, use, faults=slow)


def counted_of_the_slow(play: Play) -> list[int]:
    """Numbers of the rounds in which they began, of their updates that the server took in."""
    began = {note.fields["card"]: note.fields["version"] for note in play.notes.of("published") if note.node in ("n1", "n2")}
    fetched = [note.fields["card"] for note in play.notes.of("fetched") if note.node == SERVER]
    return [began[card] for card in fetched if card in began]


@pytest.mark.parametrize("use", ["fedavg", "scaffold", "fedadam"])
def test_late_updates_count_in_a_later_round(use: str) -> None:
    lost, counted = late(0, use), late(6, use)
    assert counted_of_the_slow(lost) == []
    assert counted_of_the_slow(counted)
    for play in (lost, counted):
        assert loads(play.world.store(SERVER).memory()["round"]) == 8
    assert np.any(weights(lost) != weights(counted))
    np.testing.assert_array_equal(weights(counted), weights(late(6, use)))


def test_a_server_that_crashes_while_somebody_is_late_goes_on() -> None:
    slow = [{"at_s": 0.0, "what": "slow", "nodes": ["n1", "n2"], "factor": 3000}]
    crashes = [{"at_s": at_s, "what": "crash", "nodes": ["server"]} for at_s in (0.7, 1.9)]
    play = of({"deadline_s": 0.5, "rounds": 8, "late": {"rounds": 6}}, faults=[*slow, *crashes])
    assert loads(play.world.store(SERVER).memory()["round"]) == 8


def test_with_enough_patience_for_all_nothing_is_late() -> None:
    """The same weights as without, but for the order of rounding."""
    np.testing.assert_allclose(weights(of({"late": {"rounds": 2}})), weights(of({})), atol=1e-6)
