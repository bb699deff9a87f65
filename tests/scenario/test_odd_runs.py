"""Scenarios at the edge of what makes sense: they run, or they are refused with what to change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kuberml.cli.main import told
from kuberml.core.errors import ConfigError, InternalError
from kuberml.scenario.config import parse
from kuberml.scenario.result import Result
from kuberml.scenario.result_files import read_result, read_runs
from kuberml.scenario.run import run_scenario
from kuberml.worlds.simulated.graphs import KINDS, graph

TREE: dict[str, Any] = {
    "name": "odd",
    "data": {"partition": "iid", "limit": 80},
    "learners": {"count": 4, "models": ["linear"]},
    "extractor": {"name": "identity"},
    "world": {"until_s": 120, "curve_points": 2},
}


def run(out: Path, paradigms: dict[str, Any], **tables: Any) -> Result:
    run_scenario(parse({**TREE, **tables, "paradigms": paradigms}), out=out, workers=1)
    return read_result(out)


@pytest.mark.parametrize("kind", KINDS)
def test_one_node_has_no_neighbours(kind: str) -> None:
    assert graph(kind, 1, np.random.default_rng(0), degree=0) == ((),)


def test_one_learner_alone(tmp_path: Path) -> None:
    paradigms = {name: {"rounds": 1} for name in ("fedavg", "dpsgd", "adpsgd", "aedfl", "epidemic", "divshare")}
    result = run(tmp_path, {**paradigms, "qkt": {}}, learners={"count": 1, "models": ["linear"]})
    assert all(item.accuracy_mean is not None for item in result.paradigms.values())


def test_who_holds_nearly_everything_back_still_trains(tmp_path: Path) -> None:
    run(tmp_path, {"local": {"epochs": 1}}, data={**TREE["data"], "heldout": 0.99})
    (one,) = read_runs(tmp_path)
    assert len(one.accuracy_own) == 4


def test_who_judges_needs_samples_of_every_label(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no sample of "):
        run(tmp_path, {"local": {"epochs": 1}}, data={**TREE["data"], "heldout": 0.01, "judge": "heldout"})


def test_a_file_of_ones_own_has_a_name_that_can_be_imported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"paradigms\.mine: use = 'my-idea\.py': name a file beside the scenario by letters"):
        run(tmp_path, {"mine": {"use": "my-idea.py"}})


def test_a_budget_under_the_extractor_costs_a_learner_its_part_and_not_the_run(tmp_path: Path) -> None:
    learners = {**TREE["learners"], "budget_bytes": 0}
    result = run(tmp_path, {"kuber": {"looks": 1}, "local": {"epochs": 1}}, learners=learners)
    assert result.paradigms["local"].accuracy_mean is not None


@pytest.mark.parametrize(
    ("name", "options"),
    [("feddf", {}), ("qkt", {"on": "probe"}), ("kuber", {"claims": True}), ("kuber", {"light": ["linear"]})],
)
def test_who_asks_about_public_samples_needs_some(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"paradigms\.{name}: it asks about public samples, and data.public = 0"):
        run(tmp_path, {name: options})


def test_what_breaks_a_run_says_in_which(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        run(tmp_path, {"wild": {"use": "dpsgd", "rounds": 3, "epochs": 5, "lr": 1e38}})
    said = told(error.value)
    assert "tensor 'state' holds NaN or infinity: if it was trained, at too high a learning rate (in node n" in said
    assert said.endswith("in paradigm 'wild', seed 0)")


def test_clients_that_cannot_fit_are_counted_and_the_report_says_why(tmp_path: Path) -> None:
    paradigms = {name: {"use": "fedavg", "rounds": 2, "epochs": 5, "lr": lr} for name, lr in (("tame", 0.1), ("wild", 1e30))}
    result = run(tmp_path, paradigms, learners={"count": 4, "models": ["mlp"]})
    assert "came to nothing" not in result.paradigms["tame"].note
    assert "8 requests to fit came to nothing, the first because: " in result.paradigms["wild"].note
    assert "holds NaN or infinity" in result.paradigms["wild"].note


def test_tracebacks_of_other_processes_are_not_told() -> None:
    error = InternalError("a job raised X")
    error.add_note("Traceback\n  somewhere")
    assert told(error) == "a job raised X"


@pytest.mark.parametrize("text", ["class Config: pass\n", "Config = 3\n"])
def test_options_of_ones_own_are_a_struct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    name = f"odd_{len(text)}"
    (tmp_path / f"{name}.py").write_text(f"{text}async def peer(node, cfg): pass\n")
    with pytest.raises(ConfigError, match="a paradigm exports its options as a struct"):
        run(tmp_path / "out", {"mine": {"use": f"{name}.py"}})
