"""Split learning and what came with it when somebody crashes or sends nonsense; the same on any number of workers."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kuberml.core.errors import RemoteError
from kuberml.core.values import loads
from kuberml.exchange.node import Node
from kuberml.exchange.split_turns import Learning
from kuberml.scenario.config import parse
from kuberml.scenario.play import Play
from kuberml.scenario.result_files import read_result
from kuberml.scenario.run import run_scenario
from kuberml.scenario.stage import SERVER
from tests.scenario.small import SMALL, ran

MLP = {"count": 3, "models": ["mlp"], "options": {"mlp": {"hidden": [16, 8]}}}
TREE = {**SMALL, "learners": MLP}
PARADIGMS: dict[str, dict[str, Any]] = {
    "split": {"rounds": 2, "deadline_s": 20.0},
    "split-u": {"use": "split", "rounds": 2, "labels": "stay", "deadline_s": 20.0},
    "splitfed": {"rounds": 2, "deadline_s": 20.0},
    "fedproto": {"rounds": 3, "deadline_s": 20.0},
    "fedpft": {"min_class_count": 2, "deadline_s": 20.0},
    "qkt": {"teachers": 2, "patience_s": 20.0},
}


def served(play: Play) -> list[Any]:
    models = [play.watch.serving(actor.node, 1 << 62) for actor in play.stage.learners]
    assert None not in models
    return models


@pytest.mark.parametrize("name", ["split", "split-u", "splitfed", "fedproto"])
def test_a_server_that_crashes_ends_as_if_it_had_not(name: str) -> None:
    """It forgets the turn or the round that it was in, and does it again on the same batches."""
    quiet = ran({**TREE, "paradigms": {name: PARADIGMS[name]}})
    said = quiet.notes.of("published")
    again = 0
    for share in (0.2, 0.5, 0.8):
        crash = {"at_s": share * said[-1].time_ns / 1e9, "what": "crash", "nodes": ["server"]}
        shaken = ran({**TREE, "paradigms": {name: PARADIGMS[name]}, "faults": [crash]})
        assert served(shaken) == served(quiet)
        again += len(shaken.notes.of("published")) - len(said)
    assert again > 0


@pytest.mark.parametrize("name", PARADIGMS)
def test_clients_that_crash_are_asked_again_or_go_on(name: str) -> None:
    crashes = [{"at_s": at_s, "what": "crash", "nodes": ["n0", "n1", "n2"]} for at_s in (0.4, 1.1, 2.3)]
    play = ran({**TREE, "paradigms": {name: PARADIGMS[name]}, "faults": crashes})
    assert len(served(play)) == 3
    rounds = PARADIGMS[name].get("rounds")
    if rounds:
        assert loads(play.world.store(SERVER).memory()["round"]) == rounds


def test_whoever_is_gone_is_passed_over() -> None:
    gone = {"at_s": 0.0, "what": "leave", "nodes": ["n1"]}
    play = ran({**TREE, "paradigms": {"split": {**PARADIGMS["split"], "deadline_s": 2.0, "tries": 2}}, "faults": [gone]})
    memory = {key: loads(data) for key, data in play.world.store(SERVER).memory().items()}
    assert memory["round"] == 2
    assert {note.node for note in play.notes.of("published")} == {"library", SERVER, "n0", "n2"} - {"library"}


def test_nonsense_ends_a_turn_and_not_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends activations of another shape, wrong targets, or more samples than there can be."""
    say, wrong = Learning._say, {}

    async def lie(self: Learning, version: int, tensors: dict[str, Any]) -> Any:
        if self._node.id in wrong:
            tensors = {**tensors, **{name: item for name, item in wrong[self._node.id].items() if name in tensors}}
        return await say(self, version, tensors)

    record, lost = Node.record, []

    def listen(self: Node, event: str, **fields: Any) -> None:
        if event == "turn lost":
            lost.append((fields["of"], fields["why"]))
        record(self, event, **fields)

    monkeypatch.setattr(Learning, "_say", lie)
    monkeypatch.setattr(Node, "record", listen)
    lies: dict[str, Any] = {
        "n0": {"activations": np.zeros((4, 3), np.float32)},
        "n1": {"targets": np.full(4, 10)},
        "n2": {"samples": np.array([-1])},
    }
    huge = {"activations": np.full((32, 16), 3e38, np.float32), "targets": np.zeros(32, np.int64)}
    whys: list[str] = []
    for node, lied in [*lies.items(), ("n0", huge)]:
        wrong.clear()
        wrong[node] = lied
        play = ran({**TREE, "paradigms": {"split": {"rounds": 1, "tries": 1}}})
        memory = {key: loads(data) for key, data in play.world.store(SERVER).memory().items()}
        assert memory["turns"] == 3
        assert np.isfinite(memory["weights"]).all()
        assert [who for who, _ in lost] == [node]
        whys.append(lost.pop()[1])
    for why, word in zip(whys, ("activations", "targets", "how many samples", "range of numbers"), strict=True):
        assert word in why


def test_a_message_out_of_turn_is_refused() -> None:
    play = ran({**TREE, "paradigms": {"split": {"rounds": 1}}})
    node = play.parts.nodes["n0"]  # type: ignore[index]
    learning = Learning(node, play.options.parts(node), play.options.plan)  # type: ignore[attr-defined]

    async def out_of_turn() -> None:
        offer = node.own("split")
        assert offer is not None
        with pytest.raises(RemoteError, match="begin the turn again"):
            await learning.back("server", offer)
        with pytest.raises(RemoteError, match="nothing was sent"):
            await learning.begin("server", None)

    asyncio.run(out_of_turn())


def test_the_number_of_workers_and_the_audit_change_nothing(tmp_path: Path) -> None:
    tree = {**TREE, "paradigms": PARADIGMS}
    audited = {**tree, "world": {**SMALL["world"], "audit": True}}
    run_scenario(parse(audited), out=tmp_path / "1", workers=1)
    run_scenario(parse(tree), out=tmp_path / "2", workers=2)
    one, two = ([(run.paradigm, run.trace_hash) for run in read_result(tmp_path / name).runs] for name in "12")
    assert one == two
    assert len({trace for _, trace in one}) == len(one)
