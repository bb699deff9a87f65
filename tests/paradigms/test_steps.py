"""Steps on updates in whole runs: liars, drop-outs, crashes, the promise of privacy, any number of workers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kuberml.core.errors import ConfigError
from kuberml.core.values import loads
from kuberml.knowledge.signing import Keys
from kuberml.ledger.ledger import Ledger
from kuberml.scenario.config import parse
from kuberml.scenario.parts import Parts
from kuberml.scenario.play import Play
from kuberml.scenario.public_things import PublicThings
from kuberml.scenario.result_files import read_result, read_runs
from kuberml.scenario.run import run_scenario
from kuberml.scenario.stage import SERVER, keys_of
from tests.scenario.small import SMALL, Silent, ran

HONEST = {**SMALL, "learners": {"count": 6, "models": ["linear"]}}
PRIVATE = {"update_steps": ["clip", "dp", "masks"], "dp": {"at": "client"}}


def weights(play: Play) -> Any:
    return remembered(play)["weights"]


def remembered(play: Play) -> dict[str, Any]:
    return {name: loads(data) for name, data in play.world.store(SERVER).memory().items()}


def of(options: dict[str, Any], use: str = "fedavg", tree: dict[str, Any] = HONEST, **more: Any) -> Play:
    return ran({**tree, "paradigms": {use: {"rounds": 3, "deadline_s": 20.0, **options}}, **more})


@pytest.mark.parametrize("use", ["fedavg", "fedprox", "scaffold", "fedadam", "fedavg-head"])
def test_masks_change_nothing_but_the_last_digits(use: str) -> None:
    plain, masked = of({}, use), of({"update_steps": ["masks"]}, use)
    np.testing.assert_allclose(weights(masked), weights(plain), atol=2e-4 if use == "fedadam" else 5e-6)
    assert not masked.notes.of("round lost")
    moved = np.linalg.norm(weights(plain))
    assert moved > 0.1  # it has learned something that could differ


def test_what_clients_hand_in_through_masks_tells_nothing_of_them() -> None:
    """Neither the package nor its card: no labels, no samples, and another length of nothing."""
    masked = of({"update_steps": ["masks"]})
    cards = [note.fields for note in masked.notes.of("published") if note.fields["slot"] == "update"]
    assert len(cards) == 18
    assert {card["kind"] for card in cards} == {"sealed"}
    assert all(card["labels"] == {} for card in cards)
    assert len({card["size_bytes"] for card in cards}) == 1


@pytest.mark.parametrize("steps", [["masks"], ["clip", "masks", "dp"]], ids="+".join)
def test_clients_that_leave_in_the_middle_are_survived(steps: list[str]) -> None:
    """Half a second is in the middle of a round; at a threshold of 0.6 two of six may go."""
    faults = [{"at_s": 0.6, "what": "leave", "nodes": ["n0"]}, {"at_s": 1.1, "what": "leave", "nodes": ["n1"]}]
    play = of({"update_steps": steps, "rounds": 4, "masks": {"threshold": 0.6}}, faults=faults)
    assert remembered(play)["round"] == 4
    assert not play.notes.of("round lost")
    assert np.isfinite(weights(play)).all()


def test_too_few_make_lost_rounds_and_the_weights_stay() -> None:
    faults = [{"at_s": 0.05, "what": "leave", "nodes": ["n0", "n1", "n2", "n3"]}]
    play = of({"update_steps": ["masks"], "rounds": 2, "deadline_s": 3.0}, faults=faults)
    assert remembered(play)["round"] == 2
    assert len(play.notes.of("round lost")) >= 2


@pytest.mark.parametrize("at_s", [0.3, 0.7, 1.3, 2.2])
@pytest.mark.parametrize(
    "options",
    [{"update_steps": ["masks"]}, {"update_steps": ["clip", "top-k"]}, {"update_steps": ["centred-clip"]}, PRIVATE],
    ids=lambda options: "+".join(options["update_steps"]),
)
def test_a_server_that_crashes_anywhere_goes_on(options: dict[str, Any], at_s: float) -> None:
    """With masks a round begun again has other keys; what comes out is the same to the last digits of fixed-point numbers."""
    quiet = of(options)
    shaken = of(options, faults=[{"at_s": at_s, "what": "crash", "nodes": ["server"]}])
    assert remembered(shaken)["round"] == 3
    if "dp" not in options["update_steps"]:  # a round begun again has other noise
        np.testing.assert_allclose(weights(shaken), weights(quiet), atol=1e-5)


def test_clients_that_crash_go_on() -> None:
    crashes = [{"at_s": at_s, "what": "crash", "nodes": ["n1", "n4"]} for at_s in (0.5, 1.0, 1.8)]
    for options in ({"update_steps": ["masks"]}, {"update_steps": ["top-k"]}):
        play = of({**options, "rounds": 4, "masks": {"threshold": 0.6}}, faults=crashes)
        assert remembered(play)["round"] == 4
        assert not play.notes.of("round lost")


def test_the_promise_of_privacy_is_in_result_and_ledger(tmp_path: Path) -> None:
    pytest.importorskip("dp_accounting", reason="the extra privacy is not installed")
    from kuberml.learning.steps.privacy import promise

    options = {"rounds": 3, "update_steps": ["clip", "dp"], "clip": {"norm": 0.5}, "dp": {"noise": 2.0, "delta": 1e-3}}
    tables = {"all": {"use": "fedavg", **options}, "half": {"use": "fedavg", "cohort": 0.5, **options}}
    run_scenario(parse({**HONEST, "paradigms": tables}), out=tmp_path, workers=1)
    everybody, half = (run.extra["privacy"] for run in read_runs(tmp_path))
    assert everybody["epsilon"] == promise(2.0, 1e-3, 3).epsilon
    assert half["epsilon"] == promise(2.0, 1e-3, 3, sampling="uniform", of=6, drawn=3).epsilon
    assert (everybody["norm"], everybody["releases"], everybody["neighbours"]) == (0.5, 3, "zeroed-out")
    assert half["neighbours"] == "replaced"
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        said = [event.fields for event in ledger.events() if event.event == "privacy"]
    assert [one["releases"] for one in said] == [1, 2, 3, 1, 2, 3]
    assert {everybody["epsilon"], half["epsilon"]} <= {one["epsilon"] for one in said}
    notes = [run.note for run in read_runs(tmp_path)]
    assert all("epsilon" in note and "delta 0.001" in note for note in notes)


def test_secrets_follow_from_the_seed_in_a_simulated_run_only() -> None:
    """A live run deals keys of its own, and then its nodes take secrets from the system too."""
    config = parse({**HONEST, "paradigms": {"fedavg": {"rounds": 1}}})
    world: Any = of({"rounds": 1}).world
    for keys, derived in ((keys_of, True), (lambda seed, node: Keys.generate(), False)):
        parts = Parts(config, "fedavg", 0, PublicThings(config), keys)
        role, actor = parts.cast[SERVER]
        standpoint = parts._standpoint(role, actor, world, Silent(), None, None)
        assert (standpoint.secrets is not None) is derived


def test_noise_in_the_sum_is_as_large_as_it_says() -> None:
    """Many values, one round: what differs from the run without noise is Normal(0, (noise norm / clients)^2) in each."""
    quiet = of({"rounds": 1, "update_steps": ["clip", "median"], "clip": {"norm": 1e-6}})
    for options, carried in [
        ({"update_steps": ["clip", "dp"]}, 1.0),
        ({"update_steps": ["clip", "dp", "masks"], "dp": {"at": "client", "noise": 2.0}}, np.sqrt(6 / 5)),
    ]:
        noisy = of({"rounds": 1, "dp": {"noise": 2.0}, **options, "clip": {"norm": 1.0}, "lr": 1e-9})
        away = weights(noisy) - weights(quiet)
        # six clients, five must answer: of six each carries a fifth of the variance, so that five carry all of it
        assert away.std() == pytest.approx(2.0 * carried / 6, rel=5 / np.sqrt(2 * away.size))


def test_few_values_and_few_bits_are_fewer_bytes_and_still_learn(tmp_path: Path) -> None:
    tables: dict[str, Any] = {
        "plain": {"use": "fedavg"},
        "bits": {"use": "fedavg", "update_steps": ["quantise"]},
        "few": {"use": "fedavg", "update_steps": ["top-k"], "top_k": {"fraction": 0.05}},
        "masked": {"use": "fedavg", "update_steps": ["top-k", "masks"], "top_k": {"fraction": 0.3, "support": "common"}},
    }
    tree = {**HONEST, "paradigms": {name: {"rounds": 6, **table} for name, table in tables.items()}}
    run_scenario(parse(tree), out=tmp_path, workers=1)
    runs = {run.paradigm: run for run in read_runs(tmp_path)}
    accuracy = {name: float(np.mean(list(run.accuracy.values()))) for name, run in runs.items()}
    assert runs["few"].bytes_moved < runs["plain"].bytes_moved
    assert runs["bits"].bytes_moved < runs["plain"].bytes_moved
    assert min(accuracy.values()) > accuracy["plain"] - 0.15


@pytest.mark.parametrize("use", ["fedasync", "fedbuff"])
def test_updates_that_come_one_by_one_take_steps_too(use: str) -> None:
    tree = {**HONEST, "paradigms": {use: {"updates": 12, "update_steps": ["clip", "top-k"]}}}
    play = ran(tree)
    assert remembered(play)["taken"] == 12
    sent = [note.fields for note in play.notes.of("published") if note.fields["slot"] == "update"]
    assert {card["kind"] for card in sent} == {"delta"}


def test_the_number_of_workers_and_the_audit_change_nothing(tmp_path: Path) -> None:
    tables = {
        "masked": {"use": "fedavg", "rounds": 2, "update_steps": ["clip", "masks", "dp"]},
        "robust": {"use": "fedavg", "rounds": 2, "update_steps": ["clip", "quantise", "krum"]},
        "noised": {"use": "fedbuff", "updates": 6, "update_steps": ["clip", "dp", "top-k"], "dp": {"at": "client"}},
    }
    tree = {**HONEST, "paradigms": tables}
    audited = {**tree, "world": {**SMALL["world"], "audit": True}}
    run_scenario(parse(audited), out=tmp_path / "1", workers=1)
    run_scenario(parse(tree), out=tmp_path / "2", workers=2)
    one, two = ([run.trace_hash for run in read_result(tmp_path / name).runs] for name in "12")
    assert one == two
    assert len(set(one)) == 3


def test_without_an_accountant_it_says_which_extra_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(ConfigError, match=r"kuberml\[privacy\]"):
        of({"update_steps": ["clip", "dp"]})
