"""A model leaves as a graph whose answers were checked, and a light edge serves it without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from kuberml.core.errors import ConfigError
from kuberml.serving.engines.export import Checked, beside, export
from kuberml.serving.engines.light import load
from tests.serving.engines.models import SHAPE, digits, head_on_patches, network

pytest.importorskip("onnxscript", reason="extra 'onnx'")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Checked]:
    """A head on filters as ONNX."""
    out = tmp_path_factory.mktemp("exported") / "model.onnx"
    return out, export(head_on_patches()[0], SHAPE, "onnx", out, data=digits())


LIGHT = """
import sys
for hidden in ("torch", "onnx", "onnxscript", "openvino", "sklearn", "scipy", "matplotlib"): sys.modules[hidden] = None
import json, numpy as np
from pathlib import Path
from kuberml.serving.engines.light import load
engine = load(Path(sys.argv[1]))
x_N = np.frombuffer(Path(sys.argv[2]).read_bytes(), np.float32).reshape(-1, *engine.shape)
print(json.dumps([engine.names[best] for best in engine.predict(x_N).argmax(1)]))
"""


def test_a_light_edge_answers_where_torch_cannot_be_imported(exported: tuple[Path, Checked], tmp_path: Path) -> None:
    out, _ = exported
    (tmp_path / "x").write_bytes(digits().x_N.tobytes())
    words = [sys.executable, "-W", "error", "-c", LIGHT, str(out), str(tmp_path / "x")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    predictor, samples = head_on_patches()
    assert json.loads(done.stdout) == [predictor.labels[best] for best in predictor.predict(samples.x_N).argmax(1)]


def test_what_was_checked_lies_beside_it(exported: tuple[Path, Checked]) -> None:
    out, found = exported
    said = msgspec.json.decode(beside(out).read_bytes(), type=Checked)
    assert said == found
    assert (said.format, said.agreement, said.samples, said.labelled) == ("onnx", 1.0, 500, 500)
    assert said.accuracy == said.reference
    assert said.accuracy is not None
    assert said.accuracy > 0.9
    assert said.worst < 1e-4
    assert not list(out.parent.glob("*.part"))


def test_the_light_engine_gives_the_predictor_s_log_probabilities(exported: tuple[Path, Checked]) -> None:
    predictor, samples = head_on_patches()
    assert load(str(exported[0])).names == predictor.labels  # as `kuberml export` prints it
    for count in (0, 1, 9):
        x_N = samples.x_N[:count]
        np.testing.assert_allclose(load(exported[0]).predict(x_N), predictor.predict(x_N), atol=1e-4)


@pytest.mark.parametrize("what", ["graph", "labels", "json", "missing"])
def test_damage_is_refused_by_what_is_wrong(what: str, exported: tuple[Path, Checked], tmp_path: Path) -> None:
    out, said = tmp_path / "model.onnx", exported[1]
    content = exported[0].read_bytes()
    wanted = {"graph": "is not the graph", "labels": "3 labels", "json": "is not what", "missing": "there must be"}
    out.write_bytes(content if what != "graph" else content[:-1] + b"x")
    if what == "labels":
        said = msgspec.structs.replace(said, labels=said.labels[:3])
    if what != "missing":
        beside(out).write_bytes(msgspec.json.encode(said) if what != "json" else b'{"schema": 1}')
    with pytest.raises(ConfigError, match=wanted[what]):
        load(out)


def test_a_file_that_only_says_it_is_onnx_is_refused(exported: tuple[Path, Checked], tmp_path: Path) -> None:
    from kuberml.core.ids import digest_of

    out = tmp_path / "model.onnx"
    out.write_bytes(b"no graph at all")
    beside(out).write_bytes(msgspec.json.encode(msgspec.structs.replace(exported[1], graph=digest_of(b"no graph at all"))))
    with pytest.raises(ConfigError, match="ONNX Runtime does not take it"):
        load(out)


def test_openvino_ir_is_read_back_and_answers_alike(tmp_path: Path) -> None:
    ov = pytest.importorskip("openvino", reason="extra 'openvino'")
    predictor, out = network("linear", 40), tmp_path / "model.xml"
    found = export(predictor, SHAPE, "openvino", out)
    assert (found.samples, found.labelled, found.accuracy) == (256, 0, None)
    compiled = ov.Core().compile_model(str(out), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    (answers_NC,) = compiled([np.ascontiguousarray(digits().x_N)]).values()
    np.testing.assert_allclose(answers_NC, predictor.predict(digits().x_N), atol=1e-4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.bin", "model.xml", "model.xml.json"]


def test_openvino_converts_a_program_where_onnx_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="extra 'openvino'")
    from kuberml.learning.torch_forms import form_of
    from kuberml.serving.engines import graphs
    from kuberml.serving.engines.runtimes import run_openvino

    find_spec = graphs.importlib.util.find_spec
    monkeypatch.setattr(graphs.importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find_spec(name))
    predictor = network("linear", 40)
    run = run_openvino(graphs.Graphs(form_of(predictor), SHAPE).openvino, threads=1)
    np.testing.assert_allclose(run(digits().x_N[:5].copy()), predictor.predict(digits().x_N[:5]), atol=1e-4)


def test_a_graph_that_is_another_model_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kuberml.learning import torch_forms

    right, other = network("linear", 40), network("linear", 3)
    form_of = torch_forms.form_of
    monkeypatch.setattr(torch_forms, "form_of", lambda predictor: form_of(other))
    with pytest.raises(ConfigError, match="is not this model: a probability is"):
        export(right, SHAPE, "onnx", tmp_path / "model.onnx", data=digits())
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_ending_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ends in \.xml"):
        export(head_on_patches()[0], SHAPE, "openvino", tmp_path / "model.onnx")
