"""One run of a comparison that breaks: the others are played and written, and the result says which one is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kuberml.core.errors import ConfigError
from kuberml.scenario.config import Config, parse
from kuberml.scenario.progress import Progress
from kuberml.scenario.report import render
from kuberml.scenario.result_files import read_result, read_runs
from kuberml.scenario.run import run_scenario
from tests.scenario.test_odd_runs import TREE

TAME: dict[str, Any] = {"epochs": 1}
WILD: dict[str, Any] = {"use": "dpsgd", "rounds": 3, "epochs": 5, "lr": 1e38}
MINE = "import msgspec\nclass Config(msgspec.Struct): pass\nasync def peer(node, cfg):\n    await node.sleep(1)\n    {}\n"
NAN = "tensor 'state' holds NaN or infinity"


def scenario(**paradigms: dict[str, Any]) -> Config:
    return parse({**TREE, "paradigms": paradigms})


def test_the_others_go_on(tmp_path: Path) -> None:
    told: list[Progress] = []
    result = run_scenario(scenario(wild=WILD, local=TAME), out=tmp_path, workers=1, progress=told.append)
    assert read_result(tmp_path) == result
    assert list(result.paradigms) == ["local"]
    assert [(one.paradigm, one.seed) for one in result.failed] == [("wild", 0)]
    assert result.failed[0].why.startswith(NAN)
    assert [run.paradigm for run in read_runs(tmp_path)] == ["local"]
    assert [(step.paradigm, bool(step.failed)) for step in told if step.done] == [("wild", True), ("local", False)]
    page = render(result, read_runs(tmp_path))
    assert "wild, seed 0, failed: tensor" in page
    assert ">failed<" in page


def test_resuming_plays_only_what_is_missing(tmp_path: Path) -> None:
    config = scenario(wild=WILD, local=TAME)
    first = run_scenario(config, out=tmp_path, workers=1)
    told: list[Progress] = []
    again = run_scenario(config, out=tmp_path, workers=1, resume=True, progress=told.append)
    assert (again.failed, again.runs, again.paradigms) == (first.failed, first.runs, first.paradigms)
    assert {step.paradigm for step in told if not step.done} <= {"wild"}


def test_a_paradigm_keeps_the_seeds_that_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "second_seed.py").write_text(MINE.format("if node.place.seed == 1: raise ValueError('not this one')"))
    config = parse({**TREE, "seeds": 3, "paradigms": {"mine": {"use": "second_seed.py"}}})
    result = run_scenario(config, out=tmp_path / "out", workers=1)
    assert [run.seed for run in result.runs] == [0, 2]
    assert result.paradigms["mine"].seeds == 2
    assert result.scenario.seeds == (0, 1, 2)
    (failed,) = result.failed
    assert "ValueError: not this one (second_seed.py line 5, in node n" in failed.why
    assert "raise ValueError" in (tmp_path / "out" / "failed" / "mine.1.txt").read_text()


def test_where_all_fail_the_first_error_is_the_command_s(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=NAN) as error:
        run_scenario(scenario(wild=WILD, wilder={**WILD, "rounds": 4}), out=tmp_path, workers=1)
    assert error.value.__notes__[-2:] == ["in paradigm 'wild', seed 0", "all 2 runs failed"]
    assert not (tmp_path / "result.json").exists()


def test_what_befalls_the_machine_ends_the_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "too_large.py").write_text(MINE.format("raise MemoryError"))
    with pytest.raises(MemoryError):
        run_scenario(scenario(mine={"use": "too_large.py"}, local=TAME), out=tmp_path / "out", workers=1)
