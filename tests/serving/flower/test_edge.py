"""An existing Flower ClientApp takes part in kuberml's rounds. Against the real flwr package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr", reason="the extra 'flower'")

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.scenario.config import parse
from kuberml.scenario.run import run_scenario
from kuberml.serving.flower.arrays import flat, layout_of, named, named_thing
from kuberml.serving.flower.edge import train
from tests.serving.flower import softmax_app

HERE = "tests.serving.flower.softmax_app"
LAYOUT = layout_of(softmax_app.initial())


def trained(app: str, number: int = 0, partition: int = 1) -> tuple[Any, int]:
    start = flat(softmax_app.initial(), LAYOUT)
    found: tuple[Any, int] = train(f"{HERE}:{app}", f"{HERE}:initial", start, number, partition, 4, 0)
    return found


def test_an_app_is_called_as_flower_calls_it() -> None:
    state_P, examples = trained("app")
    x_N, y_N = softmax_app.load_data(1, 4)
    assert examples == len(y_N)
    right = np.mean(softmax_app.predict(named(state_P, LAYOUT), x_N).argmax(1) == y_N)
    assert right > 0.7
    again, _ = trained("app")
    assert np.array_equal(again, state_P)
    assert not np.array_equal(trained("app", partition=2)[0], state_P), "another partition has other data"


@pytest.mark.parametrize(
    ("app", "message"),
    [("broken", "failed: .*out of data"), ("other", r"the array 'weights' is float32 \(2, 2\)")],
)
def test_an_app_that_fails_or_answers_something_else_is_refused(app: str, message: str) -> None:
    with pytest.raises(RemoteError, match=message):
        trained(app)


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(ConfigError, match=r"app = 'nowhere:app': write 'package\.module:name'"):
        named_thing("nowhere:app", "app")
    with pytest.raises(ConfigError, match="without arrays"):
        layout_of({})
    with pytest.raises(ConfigError, match="only floating point arrays"):
        layout_of({"steps": np.zeros(3, np.int64)})
    with pytest.raises(RemoteError, match="of finite floats is right"):
        flat({"a": np.array([np.nan], np.float32)}, layout_of({"a": np.zeros(1, np.float32)}))


def test_flower_apps_learn_together_in_a_scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_flower_app.py").write_text("from kuberml.serving.flower.edge import COMMON_MODEL, Config, client, server\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    options = {"use": "my_flower_app.py", "app": f"{HERE}:app", "initial": f"{HERE}:initial", "predict": f"{HERE}:predict"}
    tree = {
        "name": "flower",
        "data": {"limit": 300},
        "learners": {"count": 3, "models": ["linear"]},
        "extractor": {"name": "identity"},
        "paradigms": {"flower": {**options, "rounds": 3, "work_flops": 10_000_000}},
    }
    found = run_scenario(parse(tree), out=tmp_path / "out", workers=1).paradigms["flower"]
    assert found.accuracy_mean is not None
    assert found.accuracy_mean > 0.85
    assert found.flops >= 9 * 10_000_000
