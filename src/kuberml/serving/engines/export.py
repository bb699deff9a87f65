"""A predictor as a file that others serve, ONNX or OpenVINO IR, and beside it what was checked.

Beside OUT lies OUT.json: labels, shape, the digest of the file, and how its answers compared with those of the predictor.
A graph whose answers are not those of the predictor is not written.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from kuberml.core.errors import ConfigError
from kuberml.core.ids import Digest, LabelId, digest_of
from kuberml.core.rng import rng
from kuberml.core.values import digest
from kuberml.learning.predictor import Predictor
from kuberml.learning.types import Array, IntArray, Samples
from kuberml.serving.engines.cpu import refusal, this_cpu, threads_here
from kuberml.serving.engines.graphs import Graphs
from kuberml.serving.engines.proof import columns, compare, doubt

Format = Literal["onnx", "openvino"]
SCHEMA = "kuberml.export/1"
DRAWN = 256
"""Inputs that are drawn to compare with where no samples are given."""


class Checked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What lies beside an exported graph.

    Attributes:
        schema: SCHEMA.
        format: of the graph.
        model: digest of the predictor.
        graph: digest of the graph's file (OpenVINO: of its weights, the .bin).
        labels: names of its columns.
        shape: of one sample.
        samples: that were compared, drawn at random if there was no data.
        agreement: share of them with the same first label.
        worst: largest difference of a probability.
        labelled: samples behind the next two.
        accuracy, reference: of the graph and of the predictor; None without labelled samples.
    """

    schema: str
    format: Format
    model: Digest
    graph: Digest
    labels: tuple[LabelId, ...]
    shape: tuple[int, ...]
    samples: int
    agreement: float
    worst: float
    labelled: int
    accuracy: float | None
    reference: float | None


def export(
    predictor: Predictor, shape: tuple[int, ...], to: Format, out: Path, *, data: Samples | None = None, bound: float = 0.002
) -> Checked:
    """Write a predictor as a graph, and what was checked beside it.

    Args:
        predictor: one that has a form as a torch module.
        shape: of one sample.
        to: "onnx" or "openvino".
        out: the file, ending .onnx or .xml (its weights go into .bin beside it).
        data: samples to compare on; without labels of the predictor only answers are compared.
        bound: of the difference of a probability, and of the accuracy that may be lost.

    Raises:
        ConfigError: no such form, an extra is missing, a wrong ending, or the graph's answers are not the predictor's.
    """
    ending = {"onnx": ".onnx", "openvino": ".xml"}[to]
    if out.suffix != ending:
        raise ConfigError(f"{out}: a file of {to} ends in {ending}")
    if missing := refusal(this_cpu(), to, "fp32"):
        raise ConfigError(f"cannot export to {to}: {missing}")
    from kuberml.learning.torch_forms import form_of

    graphs = Graphs(form_of(predictor), shape)
    if to == "onnx":
        parts, run = _onnx(graphs, out)
    else:
        parts, run = _openvino(graphs, out)
    x_N, y_N = _compared_on(predictor, shape, data)
    proof = compare(run(x_N), predictor.predict(x_N), y_N)
    if why_not := doubt(proof, bound, exact=True):
        raise ConfigError(f"the {to} graph is not this model: {why_not}; nothing was written")
    known = proof.labelled > 0
    checked = Checked(
        SCHEMA, to, digest(predictor), digest_of(parts[-1][1]), predictor.labels, shape, proof.samples, proof.agreement,
        proof.worst, proof.labelled, proof.accuracy if known else None, proof.reference if known else None,
    )  # fmt: skip
    for path, content in [*parts, (beside(out), msgspec.json.format(msgspec.json.encode(checked), indent=1))]:
        _write(path, content)
    return checked


def beside(out: Path) -> Path:
    """Where what was checked lies."""
    return out.with_name(out.name + ".json")


def _compared_on(predictor: Predictor, shape: tuple[int, ...], data: Samples | None) -> tuple[Array, IntArray | None]:
    if data is None or not len(data):
        return rng(0, "export").random((DRAWN, *shape), np.float32), None
    if tuple(data.x_N.shape[1:]) != tuple(shape):
        raise ConfigError(f"the data are of shape {tuple(data.x_N.shape[1:])}, the model takes {tuple(shape)}")
    return np.ascontiguousarray(data.x_N), columns(data, predictor.labels)


def _onnx(graphs: Graphs, out: Path) -> tuple[list[tuple[Path, bytes]], Callable[[Array], Array]]:
    from kuberml.serving.engines.runtimes import run_onnx

    content = graphs.onnx.SerializeToString()
    return [(out, content)], run_onnx(content, threads_here())


def _openvino(graphs: Graphs, out: Path) -> tuple[list[tuple[Path, bytes]], Callable[[Array], Array]]:
    import tempfile

    import openvino as ov

    from kuberml.serving.engines.runtimes import run_openvino

    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / out.name
        ov.save_model(graphs.openvino, str(made), compress_to_fp16=False)
        parts = [(out, made.read_bytes()), (out.with_suffix(".bin"), made.with_suffix(".bin").read_bytes())]
        again = ov.Core().read_model(parts[0][1], ov.Tensor(np.frombuffer(parts[1][1], np.uint8)))
    return parts, run_openvino(again, threads_here())


def _write(path: Path, content: bytes) -> None:
    """All of it or nothing."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ConfigError(f"{path} cannot be written: {error}") from error
