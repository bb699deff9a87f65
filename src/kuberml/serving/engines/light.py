"""The light engine: an exported .onnx file and what lies beside it, served by ONNX Runtime and numpy. No torch.

`pip install kuberml onnxruntime` is all that an edge needs for it (68 MB where torch takes 750).
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from kuberml.core.damage import NOT_JSON
from kuberml.core.errors import ConfigError, MissingExtra
from kuberml.core.ids import LabelId, digest_of
from kuberml.learning.types import Array
from kuberml.serving.engines.cpu import threads_here
from kuberml.serving.engines.engine import Accelerated
from kuberml.serving.engines.export import SCHEMA, Checked, beside
from kuberml.serving.engines.runtimes import run_onnx

MAX_BYTES = 2 << 30
"""Of a graph: more does not fit one ONNX file."""


@dataclass(frozen=True)
class Light(Accelerated):
    """An engine, and the labels of its columns."""

    names: tuple[LabelId, ...] = ()


def load(path: Path | str) -> Light:
    """The engine of an exported .onnx file.

    Raises:
        ConfigError: a file is missing, too large, or not what was exported; they do not belong together.
        MissingExtra: ONNX Runtime is not installed.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise MissingExtra("an exported .onnx file", "onnx")
    path = Path(path)
    said = _read(path)
    content = path.read_bytes()
    if digest_of(content) != said.graph:
        raise ConfigError(f"{path} is not the graph that {beside(path).name} was written for: export it again")
    try:
        run = run_onnx(content, threads_here())
        out_1C = run(np.zeros((1, *said.shape), np.float32))
    except Exception as error:  # ONNX Runtime has errors of its own, without a common base
        raise ConfigError(f"{path}: ONNX Runtime does not take it: {error!s:.200}") from error
    if out_1C.shape != (1, len(said.labels)):
        raise ConfigError(f"{path} answers {list(out_1C.shape)} for one sample; there are {len(said.labels)} labels")
    why = f"exported with {said.agreement:.4f} of {said.samples} answers as the model's"
    return Light(run, _as_they_are, said.shape, len(said.labels), "onnx", "fp32", why, names=said.labels)


def _read(path: Path) -> Checked:
    if not path.is_file() or not beside(path).is_file():
        raise ConfigError(f"there must be {path} and {beside(path)}, as `kuberml export` writes them")
    if path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path} has {path.stat().st_size} bytes; {MAX_BYTES} are the most")
    try:
        said = msgspec.json.decode(beside(path).read_bytes(), type=Checked)
    except NOT_JSON as error:
        raise ConfigError(f"{beside(path)} is not what `kuberml export` writes: {error}") from error
    if (said.schema, said.format) != (SCHEMA, "onnx"):
        raise ConfigError(f"{beside(path)} is of {said.schema} for {said.format}; right is {SCHEMA} for onnx")
    if not said.labels or not said.shape or min(said.shape) < 1 or int(np.prod(said.shape)) > 1 << 24:
        raise ConfigError(f"{beside(path)}: {len(said.labels)} labels and samples of shape {said.shape} cannot be")
    return said


def _as_they_are(answers_NC: Array) -> Array:
    return answers_NC
