"""The scenarios under examples/ run, shrunken, where their data are."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from kuberml.scenario.config import load
from kuberml.scenario.run import run_scenario

EXAMPLES = Path(__file__).parents[2] / "examples"


def shrunken(name: str, folder: str, out: Path, *settings: str) -> dict[str, Any]:
    root = os.environ.get("KUBERML_DATA")
    if root is None or not (Path(root) / folder).is_dir():
        pytest.skip(f"no data: KUBERML_DATA names no folder with {folder}/")
    run_scenario(load(EXAMPLES / name, ("seeds=1", *settings)), out=out, workers=1)
    paradigms: dict[str, Any] = json.loads((out / "result.json").read_text())["paradigms"]
    return paradigms


@pytest.mark.parametrize("name", ["fashion_mnist.toml", "hospitals.toml"])
def test_every_setting_is_known(name: str) -> None:
    assert "kuber-statistics" in load(EXAMPLES / name).paradigms


def test_hospitals_gain_without_any_patient_leaving_home(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    found = shrunken("hospitals.toml", "heart_disease", tmp_path, "paradigms.fedavg.rounds=2")
    assert found["fed3r"]["accuracy_mean"] > found["local"]["accuracy_mean"] + 0.05
    assert found["kuber-statistics"]["accuracy_mean"] > found["local"]["accuracy_mean"]
    assert found["kuber-statistics"]["accuracy_own"] > found["fed3r"]["accuracy_own"]


def test_fashion_mnist_in_small(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    found = shrunken(
        "fashion_mnist.toml", "fashion_mnist", tmp_path, "learners.count=4", "data.limit=1600", "data.options.min_samples=100",
        "extractor.options.filters=8", "paradigms.fedavg.rounds=2", "paradigms.fedavg-head.rounds=1",
        "paradigms.local.epochs=1", "paradigms.one-shot.epochs=1", "paradigms.centralised.epochs=1", "data.options.alpha=1.0",
    )  # fmt: skip
    assert all(one["accuracy_mean"] is not None for one in found.values())
    kuber, fed3r = found["kuber-statistics"], found["fed3r"]
    assert kuber["accuracy_mean"] == pytest.approx(fed3r["accuracy_mean"], abs=0.05)
    assert kuber["bytes_moved"] < 2 * fed3r["bytes_moved"]
