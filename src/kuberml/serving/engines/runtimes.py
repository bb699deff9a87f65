"""The runtimes: each makes of a graph a function of samples that several threads may call.

name      | what it is                                            | precisions
torch     | the module, channels last                             | fp32, bf16 (weights of products in bf16, autocast)
compiled  | torch.compile with frozen weights; int8 by torchao    | fp32, bf16, int8, int8-reduced
onnx      | ONNX Runtime                                          | fp32, int8, int8-reduced
openvino  | OpenVINO                                              | fp32, bf16, int8, int8-reduced
"""

from __future__ import annotations

import copy
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from kuberml.core.errors import ConfigError
from kuberml.learning.types import Array
from kuberml.serving.aside import Aside
from kuberml.serving.engines.engine import Precision
from kuberml.serving.engines.graphs import Graphs, quiet

Run = Callable[[Array], Array]
"""float32 [N, ...] -> float32 [N, width], N >= 1."""

COMPILE_S = 300.0
"""Patience with a compiler: ResNet-18 in two shapes took 54 s where seven others wanted the two cores."""

BUCKETS = (1, 32)
"""Batch sizes that are compiled. (With one compiled for any size, torch 2.13 mistakes the strides of channels-last layers.)"""


def make(engine: str, precision: Precision, graphs: Graphs, calibration_N: Array | None, threads: int) -> Run:
    """The function that a runtime makes of a part.

    Args:
        engine: one of the table.
        precision: that the runtime has.
        graphs: of the part.
        calibration_N: samples for int8; not needed otherwise.
        threads: of one call. Torch takes those of the process instead.

    Raises:
        ConfigError: it cannot: an operation is not supported, the compiler fails or takes too long; int8 without samples.
    """
    if precision.startswith("int8") and (calibration_N is None or not len(calibration_N)):
        raise ConfigError("int8 takes its ranges from calibration samples, and there are none")
    try:
        return _MAKERS[engine](graphs, precision, calibration_N, threads)
    except ConfigError:
        raise
    except Exception as error:  # exporters and compilers raise of everything
        raise ConfigError(f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}") from error


def _torch(graphs: Graphs, precision: Precision, _: Array | None, __: int) -> Run:
    return _run_torch(_reduced(graphs.module) if precision == "bf16" else graphs.module, bf16=precision == "bf16")


def _compiled(graphs: Graphs, precision: Precision, calibration_N: Array | None, threads: int) -> Run:
    """Compiled and called in a thread of its own: torch keeps its settings, and what compiled code was made for, by thread.

    Freezing that was set in another thread would not be seen, and a call from another one would compile all of it anew.
    """
    import torch

    bf16 = precision == "bf16"
    module = _reduced(graphs.module) if bf16 else graphs.module
    if precision.startswith("int8"):
        assert calibration_N is not None
        module = graphs.torch_int8(calibration_N, reduced=precision == "int8-reduced")
    owner = Aside("kuberml torch.compile")

    def first_calls() -> Run:
        with quiet():
            import torch._inductor.config as inductor

            torch.set_num_threads(threads)
            inductor.freezing = True  # not through options=: its fusions read the setting
            inductor.compile_threads = 1  # helper processes would each import torch, for a handful of kernels
            run = _in_buckets(_run_torch(torch.compile(module, dynamic=False), bf16=bf16))
            for count in BUCKETS:
                run(np.zeros((count, *graphs.shape), np.float32))
        return run

    try:
        compiled = owner.submit(first_calls).result(timeout=COMPILE_S)
    except BaseException as error:
        owner.close()
        if isinstance(error, TimeoutError):
            raise ConfigError(f"torch.compile has not ended after {COMPILE_S:g} s") from error
        raise

    def run(x_N: Array) -> Array:
        return owner.submit(lambda: compiled(x_N)).result()

    weakref.finalize(run, owner.close)
    return run


def _in_buckets(run: Run) -> Run:
    """Only batches of BUCKETS reach the compiled code, each compiled once: the last is filled up with zeros."""

    def padded(x_N: Array) -> Array:
        bucket = next((size for size in BUCKETS if len(x_N) <= size), BUCKETS[-1])
        outs = []
        for start in range(0, len(x_N), bucket):
            some = x_N[start : start + bucket]
            filled = np.zeros((bucket, *x_N.shape[1:]), np.float32)
            filled[: len(some)] = some
            outs.append(run(filled)[: len(some)])
        return np.concatenate(outs)

    return padded


def _run_torch(module: Any, *, bf16: bool) -> Run:
    import torch

    def run(x_N: Array) -> Array:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            out: Array = module(torch.from_numpy(x_N if x_N.flags.writeable else x_N.copy())).float().numpy()
        return out

    return run


def _reduced(module: Any) -> Any:
    """A copy whose products have bf16 weights: autocast would convert them at every call."""
    import torch

    small = copy.deepcopy(module)
    for layer in small.modules():
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
            layer.to(torch.bfloat16)
    return small


def _onnx(graphs: Graphs, precision: Precision, calibration_N: Array | None, threads: int) -> Run:
    if precision == "fp32":
        return run_onnx(graphs.onnx.SerializeToString(), threads)
    assert calibration_N is not None
    return run_onnx(graphs.onnx_int8(calibration_N, reduced=precision == "int8-reduced"), threads)


def run_onnx(model: bytes, threads: int) -> Run:
    """An ONNX graph of one input and one output in ONNX Runtime. Raises what ONNX Runtime raises."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other runtimes have threads here too
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(x_N: Array) -> Array:
        (out,) = session.run(None, {name: x_N})
        return np.asarray(out, np.float32)

    return run


def _openvino(graphs: Graphs, precision: Precision, calibration_N: Array | None, threads: int) -> Run:
    import openvino as ov

    if precision.startswith("int8"):
        assert calibration_N is not None
        model = ov.Core().read_model(graphs.onnx_int8(calibration_N, reduced=precision == "int8-reduced"))
    else:
        model = graphs.openvino
    return run_openvino(model, threads, bf16=precision == "bf16")


def run_openvino(model: Any, threads: int, *, bf16: bool = False) -> Run:
    """An OpenVINO model of one input and one output. Raises what OpenVINO raises."""
    import openvino as ov

    hints: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
    }
    compiled = ov.Core().compile_model(model, "CPU", hints)
    mine = threading.local()  # a request belongs to one caller at a time

    def run(x_N: Array) -> Array:
        if not hasattr(mine, "request"):
            mine.request = compiled.create_infer_request()
        (out,) = mine.request.infer([x_N]).values()
        return np.array(out, np.float32)

    return run


_MAKERS: dict[str, Callable[[Graphs, Precision, Array | None, int], Run]] = {
    "torch": _torch,
    "compiled": _compiled,
    "onnx": _onnx,
    "openvino": _openvino,
}
