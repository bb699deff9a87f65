"""From a torch module to the forms that runtimes read: an exported program, ONNX, OpenVINO. Each is made once a part."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kuberml.learning.types import Array

if TYPE_CHECKING:
    from torch.nn import Module

INPUT, OUTPUT = "samples", "answers"
"""Names in exported graphs."""

CALIBRATION = 128
"""Samples that ranges are taken from: more change little and cost a forward pass each."""


class Graphs:
    """One module in all its forms; the batch is a free axis in each."""

    def __init__(self, module: Module, shape: tuple[int, ...]) -> None:
        self.module, self.shape = module, shape

    @functools.cached_property
    def program(self) -> Any:
        """A `torch.export.ExportedProgram`."""
        import torch

        x = torch.rand(2, *self.shape, generator=torch.Generator().manual_seed(0))
        with quiet(), torch.no_grad():
            return torch.export.export(self.module, (x,), dynamic_shapes=({0: torch.export.Dim("N")},))

    @functools.cached_property
    def onnx(self) -> Any:
        """An `onnx.ModelProto`."""
        import torch

        with quiet():
            made = torch.onnx.export(
                self.program, dynamo=True, verbose=False, input_names=[INPUT], output_names=[OUTPUT], external_data=False
            )
        assert made is not None
        return made.model_proto

    @functools.cached_property
    def openvino(self) -> Any:
        """An `openvino.Model`: of the ONNX graph where that can be made (in a tenth of the time), else of the program."""
        import openvino as ov

        if importlib.util.find_spec("onnxscript") is not None:
            return ov.Core().read_model(self.onnx.SerializeToString())
        with quiet():
            model = ov.convert_model(self.program)
        model.inputs[0].get_tensor().set_names({INPUT})
        model.outputs[0].get_tensor().set_names({OUTPUT})
        return model

    def onnx_int8(self, x_N: Array, *, reduced: bool) -> bytes:
        """An ONNX graph whose convolutions and products are int8, with ranges from samples; `reduced`: weights of 7 bits."""
        import onnx
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        with tempfile.TemporaryDirectory() as folder, quiet():
            source, clean, out = (Path(folder) / name for name in ("source.onnx", "clean.onnx", "int8.onnx"))
            onnx.save(self.onnx, str(source))
            quant_pre_process(str(source), str(clean), skip_symbolic_shape=True)
            quantize_static(
                str(clean), str(out), _Reader(x_N[:CALIBRATION]), quant_format=QuantFormat.QDQ, per_channel=True,
                reduce_range=reduced, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                op_types_to_quantize=["Conv", "MatMul", "Gemm", "Add", "MaxPool", "Relu"],
            )  # fmt: skip
            return out.read_bytes()

    def torch_int8(self, x_N: Array, *, reduced: bool) -> Any:
        """A torch module of quantised operators for a compiler, with ranges from samples; `reduced`: values of 7 bits."""
        import torch

        with quiet(), torch.no_grad():
            from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
            from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

            config = x86.get_default_x86_inductor_quantization_config(reduce_range=reduced)
            watching = prepare_pt2e(self.program.module(), x86.X86InductorQuantizer().set_global(config))
            for start in range(0, min(len(x_N), CALIBRATION), 16):
                watching(torch.tensor(x_N[start : start + 16]))
            return convert_pt2e(watching)


class _Reader:
    """What onnxruntime's calibration asks for samples."""

    def __init__(self, x_N: Array) -> None:
        self._batches = iter([x_N[start : start + 16] for start in range(0, len(x_N), 16)])

    def get_next(self) -> dict[str, Array] | None:
        """A batch, or None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: np.ascontiguousarray(batch)}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what exporters say about themselves: their errors are raised. Others' words in this process are heard."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
