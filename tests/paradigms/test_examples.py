"""Every way of learning has a small scenario that runs: on digits, in seconds."""

from pathlib import Path

import pytest

from kuberml.scenario.config import load
from kuberml.scenario.run import run_scenario

EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "paradigms").glob("*.toml"))

SHORTER = {"fedavg": "rounds=1", "fedasync": "updates=120", "fedbuff": "updates=120"}
"""fedavg is what they are compared with."""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_runs_and_learns(path: Path, tmp_path: Path) -> None:
    settings = [f"paradigms.{label}.{SHORTER[label]}" for label in load(path).paradigms if label in SHORTER]
    config = load(path, tuple(settings))
    assert path.stem == config.name
    mine = [label for label, paradigm in config.paradigms.items() if paradigm.use == path.stem]
    assert mine
    result = run_scenario(config, out=tmp_path, workers=1)
    for label in mine:
        accuracy = result.paradigms[label].accuracy_mean
        assert accuracy is not None
        assert accuracy > 0.5  # of ten labels, of which a learner has two or three


def test_there_are_some() -> None:
    assert {path.stem for path in EXAMPLES} >= {"fedprox", "scaffold", "fedadam", "fedyogi", "feddf", "fedasync", "fedbuff"}
    assert {path.stem for path in EXAMPLES} >= {"adpsgd", "epidemic", "divshare", "aedfl"}
