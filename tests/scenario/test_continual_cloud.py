"""The demonstration that ships inside: edges meet digit after digit while the cloud answers. As a run, a page and a table."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

import msgspec
import pytest

from kuberml.cli.output import factors_out
from kuberml.scenario.config import load
from kuberml.scenario.report import render
from kuberml.scenario.result import Result
from kuberml.scenario.result_files import read_result, read_runs
from kuberml.scenario.run import run_scenario

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALLER = (
    *("seeds=1", "data.limit=600", "learners.count=3", "learners.models=['linear']", "paradigms.joint.epochs=10"),
    *(
        "paradigms.frozen.epochs=2",
        "paradigms.sequential.rounds=2",
        "paradigms.fedavg-replay.rounds=3",
        "world.curve_points=10",
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    out = tmp_path_factory.mktemp("cloud")
    with resources.as_file(resources.files("kuberml.scenario").joinpath("continual_cloud.toml")) as path:
        run_scenario(load(path, SMALLER), out=out, workers=1)
    return out


@pytest.fixture(scope="module")
def result(folder: Path) -> Result:
    return read_result(folder)


def test_the_cloud_keeps_up_with_joint_training_and_the_others_do_not(result: Result) -> None:
    served = {label: item.served for label, item in result.paradigms.items() if item.served is not None}
    assert served.keys() == {"frozen", "sequential", "fedavg-replay", "joint", "continual"}
    assert {one.joint for one in served.values()} == {"joint"}
    assert {one.whose for one in served.values()} == {"server"}
    mean = {label: one.mean for label, one in served.items()}
    gap = {label: one.gap_to_joint for label, one in mean.items() if one.gap_to_joint is not None}
    assert gap["joint"] == 0
    assert gap["continual"] < 0.05
    assert min(gap["frozen"], gap["sequential"]) > 0.2
    assert mean["continual"].unanswered == 0
    assert mean["continual"].answered_s is not None
    assert mean["continual"].answered_s < 30
    for one in served.values():
        assert len(one.accuracy) == len(one.tasks) == 5
        assert one.curve[-1].seen == pytest.approx(one.curve[-1].every), "in the end everything has been met"


def test_the_sentence_is_about_what_is_served(result: Result) -> None:
    assert result.sentence.startswith("In the end the cloud model of continual answers ")
    for words in ("joint training", "sequential", "frozen", "fedavg-replay", "one seed decides nothing"):
        assert words in result.sentence


def test_the_page_shows_it(folder: Path, result: Result) -> None:
    pytest.importorskip("matplotlib")
    page = render(result, read_runs(folder))
    assert "The served cloud model" in page
    assert "gap to joint" in page
    assert page.count("<svg") == 5, "two more than without a stream"
    assert "continual: 0+1" in page, "R[t][i] of every paradigm"


def test_the_terminal_has_a_table_of_it(result: Result, capsys: pytest.CaptureFixture[str]) -> None:
    factors_out(result.paradigms)
    lines = capsys.readouterr().out.split("served model")[1].splitlines()
    (line,) = (line for line in lines if line.strip().startswith("continual"))
    accuracy = result.paradigms["continual"].served.mean.accuracy  # type: ignore[union-attr]
    assert f"{100 * (accuracy or 0):.1f} %" in line


@pytest.mark.parametrize("name", ["continual_cloud.toml", "continual_cloud_cifar10.toml"])
def test_the_examples_are_possible(name: str) -> None:
    config = load(EXAMPLES / name)
    assert config.data.stream is not None
    assert config.learners.count == 10
    uses = {paradigm.use for paradigm in config.paradigms.values()}
    assert uses >= {"frozen", "sequential", "fedavg-replay", "joint", "continual"}


def test_fashion_mnist_class_by_class_in_small(tmp_path: Path) -> None:
    root = os.environ.get("KUBERML_DATA")
    if root is None or not (Path(root) / "fashion_mnist").is_dir():
        pytest.skip("no data: KUBERML_DATA names no folder with fashion_mnist/")
    settings = ("seeds=1", "data.limit=1500", "learners.count=3", "data.stream.tasks=5", "extractor.options.filters=8")
    config = load(EXAMPLES / "continual_cloud.toml", settings)
    alone = msgspec.structs.replace(config, paradigms={"continual": config.paradigms["continual"]})
    found = run_scenario(alone, out=tmp_path, workers=1).paradigms["continual"].served
    assert found is not None
    assert found.mean.accuracy is not None
    assert found.mean.accuracy > 0.6
