"""Scenario runs in which something goes wrong: they complete, and what was spoiled on the way is never in a model."""

from pathlib import Path
from typing import Any

import pytest

from kuberml.scenario.config import parse
from kuberml.scenario.result_files import read_result, read_runs
from kuberml.scenario.run import run_scenario
from tests.scenario.small import PARADIGMS, SMALL, ran

N1: dict[str, Any] = {"nodes": ["n1"]}
FAULTS: dict[str, list[dict[str, Any]]] = {
    "leaves for good": [{"at_s": 0.6, "what": "leave", **N1}],
    "churn": [
        {"at_s": 0.5, "what": "leave", "nodes": ["n1", "n2"], "until_s": 5},
        {"at_s": 2, "what": "join", "nodes": ["n4"]},
    ],
    "crash": [{"at_s": 0.3, "what": "crash", **N1}, {"at_s": 0.9, "what": "crash", "nodes": ["n2"], "until_s": 3}],
    "all crash": [{"at_s": 0.9, "what": "crash"}],
    "partition": [{"at_s": 0.25, "what": "partition", "nodes": ["n0", "n1"], "until_s": 100}],
    "cut off for ever": [{"at_s": 0.0, "what": "partition", "nodes": ["n0"]}],
    "slow": [{"at_s": 0.1, "what": "slow", "nodes": ["n3"], "factor": 1000}],
    "corrupt": [{"at_s": 0.0, "what": "corrupt", "nodes": ["n3"]}],
    "all corrupt": [{"at_s": 0.0, "what": "corrupt"}],
    "full disk": [{"at_s": 0.5, "what": "disk_full", "nodes": ["n3"], "until_s": 50}],
    "the hub restarts": [{"at_s": 0.6, "what": "crash", "nodes": ["hub"], "until_s": 5}],
}
NOTHING_TO_SERVE = {
    ("cut off for ever", "centralised"),  # the server waits for the data of the one that is cut off, longer than the run
    ("all corrupt", "centralised"),
    ("all corrupt", "fed3r"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_paradigm_gets_through(name: str, tmp_path: Path) -> None:
    result = run_scenario(parse({**SMALL, "paradigms": PARADIGMS, "faults": FAULTS[name]}), out=tmp_path, workers=1)
    for label, item in result.paradigms.items():
        if (name, label) in NOTHING_TO_SERVE:
            assert item.accuracy_mean is None
            continue
        assert item.accuracy_mean is not None, label
        assert item.accuracy_mean > 0.03


def test_a_restarted_server_ends_where_an_undisturbed_one_does(tmp_path: Path) -> None:
    crash = [{"at_s": 0.6, "what": "crash", "nodes": ["server"], "until_s": 5}]
    names = {name: PARADIGMS[name] for name in ("fedavg", "fedavg-head", "fed3r")}
    quiet = run_scenario(parse({**SMALL, "paradigms": names}), out=tmp_path / "quiet", workers=1)
    shaken = run_scenario(parse({**SMALL, "paradigms": names, "faults": crash}), out=tmp_path / "shaken", workers=1)
    for label in names:
        assert shaken.paradigms[label].accuracy_mean == quiet.paradigms[label].accuracy_mean
        assert shaken.paradigms[label].virtual_time_s > quiet.paradigms[label].virtual_time_s


@pytest.mark.parametrize("paradigm", ["fedavg-head", "fed3r", "dpsgd", "kuber"])
def test_what_a_corrupt_node_sends_is_as_if_it_had_sent_nothing(paradigm: str) -> None:
    """n3's bytes are flipped on the way: nobody's record says that something of it was opened or absorbed."""
    fault = {"at_s": 0.0, "what": "corrupt", "nodes": ["n3"]}
    play = ran({**SMALL, "paradigms": {paradigm: PARADIGMS[paradigm]}, "faults": [fault]})
    author = next(actor.keys.public for actor in play.stage.learners if actor.node == "n3")
    spoiled = {note.fields["card"] for note in play.notes.of("published") if note.node == "n3"}
    assert spoiled
    for note in play.notes.all:
        if note.node != "n3" and note.event in ("fetched", "absorbed"):
            assert note.fields["card"] not in spoiled
    assert author not in {note.fields.get("author") for note in play.notes.of("absorbed")}
    tried = play.notes.of("undelivered") + play.notes.of("refused")
    assert any(note.fields["card"] in spoiled and "not what its author signed" in note.fields["why"] for note in tried)


@pytest.mark.parametrize(("paradigm", "budget_bytes"), [("kuber", 12_000), ("dpsgd", 30_000), ("fedavg-head", 12_000)])
def test_a_budget_is_kept_also_across_crashes(paradigm: str, budget_bytes: int, tmp_path: Path) -> None:
    """A delivery may end a budget, with the piece or message under way: never by more than that."""
    learners = {**SMALL["learners"], "budget_bytes": budget_bytes}
    crash = [{"at_s": 3.0, "what": "crash"}, {"at_s": 6.0, "what": "crash"}]
    config = parse({**SMALL, "learners": learners, "paradigms": {paradigm: PARADIGMS[paradigm]}, "faults": crash})
    run_scenario(config, out=tmp_path, workers=1)
    received = read_runs(tmp_path)[0].extra["received_bytes"]
    learners_got = {node: count for node, count in received.items() if node.startswith("n")}
    allowed = (
        budget_bytes * (1 + 2 / 64) + 8000
    )  # the budget, what crashes give back; the blobs and messages under way, headers
    assert max(learners_got.values()) < allowed
    assert read_result(tmp_path).paradigms[paradigm].accuracy_mean is not None
