"""Robust means against clients that want to ruin the model, and the examples of steps and policies."""

from pathlib import Path
from typing import Any

import pytest

from kuberml.paradigms import PARADIGMS
from kuberml.scenario.config import load, parse
from kuberml.scenario.options import check_options
from kuberml.scenario.run import run_scenario
from tests.paradigms import byzantine
from tests.scenario.small import SMALL

EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "steps").glob("*.toml"))

if "byzantine" not in PARADIGMS:
    PARADIGMS.add("byzantine", lambda: byzantine)


ROBUST: dict[str, dict[str, Any]] = {
    "median": {"update_steps": ["median"]},
    "trimmed-mean": {"update_steps": ["trimmed-mean"], "trimmed_mean": {"share": 0.3}},
    "krum": {"update_steps": ["krum"], "krum": {"liars": 2}},
    "multi-krum": {"update_steps": ["krum", "median"], "krum": {"liars": 2, "keep": 4}},
    "centred-clip": {"update_steps": ["centred-clip"], "centred_clip": {"radius": 0.3, "passes": 3}},
}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_robust_means_survive_two_byzantine_of_eight_and_the_mean_does_not(seed: int, tmp_path: Path) -> None:
    """Real clients that hand in the opposite of what they learn, tenfold: -10 x 2 / 8 outweighs + 6 / 8."""
    learners = {"count": 8, "models": ["linear"]}
    tables = {
        name: {"use": "byzantine", "rounds": 8, "lr": 0.5, "epochs": 2, **options}
        for name, options in {"mean": {}, **ROBUST}.items()
    }
    tree = {**SMALL, "data": {"partition": "iid", "limit": 800}, "learners": learners, "seed": seed, "paradigms": tables}
    result = run_scenario(parse(tree), out=tmp_path, workers=1)
    accuracy = {name: item.accuracy_mean or 0.0 for name, item in result.paradigms.items()}
    assert accuracy.pop("mean") < 0.3
    assert {name: round(share, 2) for name, share in accuracy.items() if share < 0.65} == {}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_run(path: Path, tmp_path: Path) -> None:
    config = load(path)
    check_options(config, PARADIGMS)
    shorter = load(path, tuple(f"paradigms.{label}.rounds=4" for label in config.paradigms))
    result = run_scenario(shorter, out=tmp_path, workers=1)
    accuracy = {label: item.accuracy_mean or 0.0 for label, item in result.paradigms.items()}
    assert min(accuracy.values()) > 0.3
    assert {path.stem for path in EXAMPLES} >= {"masks", "robust", "compressed"}
    if path.stem == "robust":
        assert accuracy["mean"] < min(share for label, share in accuracy.items() if label != "mean")
