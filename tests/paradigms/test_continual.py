"""Continual learning in whole runs: class by class, domain by domain, each edge in its own order, with a liar among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kuberml.ledger.ledger import Event, Ledger
from kuberml.scenario.config import parse
from kuberml.scenario.run import run_scenario

TREE: dict[str, Any] = {
    "name": "continual",
    "data": {"dataset": "digits", "partition": "iid", "public": 200, "probe_labels": True, "limit": 600},
    "learners": {"count": 4, "models": ["linear"]},
    "extractor": {"name": "identity"},
    "paradigms": {"continual": {}},
}


def run(out: Path, *, stream: dict[str, Any], learners: dict[str, Any] | None = None, **data: Any) -> tuple[float, list[Event]]:
    tree: dict[str, Any] = {
        **TREE,
        "data": {**TREE["data"], "stream": stream, **data},
        "learners": {**TREE["learners"], **(learners or {})},
    }
    if "domains" in data:
        tree["extractor"] = {"name": "random-convolutions"}  # upside down in brightness: no linear head on pixels knows both
    result = run_scenario(parse(tree), out=out, workers=1)
    with Ledger(out / "ledger.sqlite") as ledger:
        events = [event for event in ledger.events() if event.node.endswith("server")]
    accuracy = result.paradigms["continual"].accuracy_mean
    assert accuracy is not None
    return accuracy, events


def of(events: list[Event], name: str) -> list[dict[str, Any]]:
    return [event.fields for event in events if event.event == name]


@pytest.mark.parametrize("order", ["own", "same"])
def test_classes_that_come_over_time_are_all_known_at_the_end_without_a_gap(order: str, tmp_path: Path) -> None:
    accuracy, events = run(tmp_path, stream={"tasks": 5, "every_s": 30, "order": order})
    versions = of(events, "version")
    assert accuracy > 0.9
    assert of(events, "refused") == []
    assert len(versions[-1]["labels"]) == 10
    assert versions[-1]["measures"]["gap_to_joint"] == 0.0
    if order == "same":  # two labels at a time, for everybody
        assert sorted({len(version["labels"]) for version in versions}) == [2, 4, 6, 8, 10]
        assert versions[-1]["measures"]["forgetting"] is not None


def test_the_same_data_in_another_order_make_the_same_model(tmp_path: Path) -> None:
    own, same = (
        of(run(tmp_path / order, stream={"tasks": 5, "every_s": 30, "order": order})[1], "version")[-1]
        for order in ("own", "same")
    )
    assert own["manifest"] == same["manifest"]
    assert own["model"] == same["model"]


def test_a_domain_that_comes_later_is_reported_as_drift_and_learned(tmp_path: Path) -> None:
    accuracy, events = run(
        tmp_path, stream={"tasks": 2, "every_s": 30, "by": "domains", "order": "same"}, domains=["plain", "inverted"]
    )
    assert accuracy > 0.85
    drifts = of(events, "drift")
    assert {drift["slot"] for drift in drifts} == {"stage-1"}
    assert len(drifts) == 4
    assert of(events, "refused") == []


def test_a_liar_is_refused_in_every_stage_and_changes_nothing(tmp_path: Path) -> None:
    accuracy, events = run(tmp_path, stream={"tasks": 2, "every_s": 30, "order": "same"}, learners={"liars": 1})
    refused = of(events, "refused")
    assert len({one["author"] for one in refused}) == 1
    assert len(refused) == 2
    assert refused[0]["author"] not in {one["author"] for one in of(events, "absorbed")}
    assert accuracy > 0.9
