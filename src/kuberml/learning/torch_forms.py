"""Predictors and extractors as torch modules from samples to answers: what compilers, ONNX and OpenVINO start from.

A module takes samples as a predictor does, float32 [N, H, W, C] or [N, features], and gives what it gives. Whole numbers stay
whole: what `patchnet` makes exact is exact here too, wherever float64 is kept (a runtime that turns it into float32 is off by
a step of 1/256 of a feature now and then). Legend: N samples, d features, C labels; other letters as in `patchnet`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kuberml.core.errors import ConfigError
from kuberml.knowledge.kinds.extractor import Extractor
from kuberml.knowledge.ridge import Head
from kuberml.learning.extractors import built
from kuberml.learning.image_extractors import Projected
from kuberml.learning.patchnet import GAIN, PatchNet
from kuberml.learning.predictor import SHARPNESS, HeadOn, Network
from kuberml.learning.projection import CLIP, STEP_LOG2, Projection
from kuberml.learning.torch_extractor import TorchFeatures
from kuberml.learning.torch_learner import TorchLearner
from kuberml.learning.torch_scratch import fresh, one_job
from kuberml.learning.types import Array


def form_of(predictor: Any) -> nn.Module:
    """A predictor as a module, samples -> log-probabilities float32 [N, C].

    Raises:
        ConfigError: it has no such form (a scikit-learn estimator, a blend, an architecture of somebody's own).
    """
    if isinstance(predictor, HeadOn):
        return nn.Sequential(features_form(predictor.extractor, predictor.shape), HeadForm(predictor.head)).eval()
    if isinstance(predictor, Network) and isinstance(predictor.learner, TorchLearner):
        return nn.Sequential(network_form(predictor.learner, predictor.state), LogProbabilities()).eval()
    sort = type(predictor.learner if isinstance(predictor, Network) else predictor).__name__
    raise ConfigError(f"a {sort} has no form as a torch module")


def features_form(extractor: Extractor, shape: tuple[int, ...]) -> nn.Module:
    """An extractor as a module, samples of a shape -> features float32 [N, d]. Raises ConfigError: it has no such form."""
    function = built(extractor)
    if isinstance(function, TorchFeatures):
        return UpTo(network_form(function.learner, function.state), function.layer).eval()
    if isinstance(function, Projected):
        parts: list[nn.Module] = [PatchForm(function.net, shape)]
        return nn.Sequential(*parts, *([] if function.projection is None else [ProjectionForm(function.projection)])).eval()
    if isinstance(function, PatchNet):
        return PatchForm(function, shape).eval()
    raise ConfigError(f"an extractor {extractor.architecture!r} has no form as a torch module")


def network_form(learner: TorchLearner, state: Array) -> ChannelsLast:
    """A learner with its state as a module of its own, samples -> logits float32 [N, C]. Raises ConfigError: as `load` does."""
    with one_job(0):  # building draws from torch's generator
        scratch = fresh(learner)
    scratch.load(state)
    form = ChannelsLast(scratch.module)
    form.eval()
    return form


class ChannelsLast(nn.Module):
    """Images as their channels come first in name and last in memory: nothing is copied."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Any:
        """[N, H, W, channels] or [N, features] -> what the module answers."""
        return self.module(x.permute(0, 3, 1, 2) if x.ndim == 4 else x)


class LogProbabilities(nn.Module):
    """Log-softmax in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C] -> [N, C]."""
        return torch.log_softmax(x.float(), dim=1)


class _Reached(Exception):
    """The layer has answered: what comes after it need not run."""


class UpTo(nn.Module):
    """A network up to the answer of one of its layers, flattened."""

    def __init__(self, network: ChannelsLast, layer: str) -> None:
        super().__init__()
        self.network = network
        part = network.module.get_submodule(layer)
        part.register_forward_hook(self._stop)

    def forward(self, x: Tensor) -> Tensor:
        """[N, ...] -> [N, d]."""
        try:
            self.network(x)
        except _Reached as reached:
            out: Tensor = reached.args[0]
            return out.flatten(1).float()
        raise AssertionError("building the extractor has shown that the layer is reached")

    @staticmethod
    def _stop(_: nn.Module, __: Any, out: Tensor) -> None:
        raise _Reached(out)


class PatchForm(nn.Module):
    """`patchnet.PatchNet` as convolutions."""

    _high: Tensor
    _low: Tensor
    _rows: Tensor
    _columns: Tensor
    _count: Tensor
    _centre: Tensor
    _scale: Tensor

    def __init__(self, net: PatchNet, shape: tuple[int, ...]) -> None:
        super().__init__()
        geometry = net.geometry
        self.levels, self.pad, self.window = geometry.levels, geometry.pad, geometry.window
        self.floor, self.sides = geometry.floor_ppm / 1e6 * geometry.levels**2, geometry.sides
        side, channels = geometry.patch, geometry.channels
        filters = net.filters_KF.astype(np.float32).reshape(side, side, channels, -1).transpose(3, 2, 0, 1)
        self.filters = _constant(filters)
        self.ones = _constant(np.ones((1, channels, side, side), np.float32))
        for name, values in (("_high", net.high_F), ("_low", net.low_F)):
            self.register_buffer(name, torch.tensor(values.reshape(1, -1, 1, 1)))
        self.register_buffer("_centre", torch.tensor(net.centre_D))
        self.register_buffer("_scale", torch.tensor(net.scale_D))
        rows_gR, columns_gR = (_cells(length, geometry.grid) for length in geometry.positions(shape))
        self.register_buffer("_rows", torch.from_numpy(rows_gR))
        self.register_buffer("_columns", torch.from_numpy(columns_gR.T.copy()))
        self.register_buffer("_count", torch.from_numpy(np.outer(rows_gR.sum(1), columns_gR.sum(1))))

    def forward(self, x: Tensor) -> Tensor:
        """[N, H, W, C] -> [N, D]."""
        pixels = torch.round(x.permute(0, 3, 1, 2) * self.levels)
        if self.pad:
            pixels = nn.functional.pad(pixels, (self.pad,) * 4, mode="replicate")
        total, square = self.ones(pixels).double(), self.ones(pixels * pixels).double()
        variance = (self.window * square - total * total) / self.window**2
        gain = (GAIN / torch.sqrt(variance + self.floor)).float()
        answers = torch.round(self.filters(pixels).float() * gain)
        above, below = torch.relu(answers - self._high), torch.relu(self._low - answers)
        sides = [above, below] if self.sides == 2 else [above + below]
        cells = torch.stack([torch.matmul(self._rows, torch.matmul(each, self._columns)) for each in sides], 1) / self._count
        pooled = cells.permute(0, 3, 4, 1, 2).flatten(1)  # [N, S, F, g, g] -> by cell, side, filter
        return (pooled - self._centre) * self._scale


class ProjectionForm(nn.Module):
    """`projection.Projection` in float64, where its products are exact."""

    _mix: Tensor
    _scale: Tensor

    def __init__(self, projection: Projection) -> None:
        super().__init__()
        self.register_buffer("_mix", torch.from_numpy(projection.mix_Dk.astype(np.float64)))
        self.register_buffer("_scale", torch.tensor(projection.scale_k * np.float32(2.0**-STEP_LOG2)))

    def forward(self, z_ND: Tensor) -> Tensor:
        """[N, D] -> [N, k]."""
        steps = torch.round(z_ND.clamp(-CLIP, CLIP) * 2**STEP_LOG2).double()
        return torch.matmul(steps, self._mix).float() * self._scale


class HeadForm(nn.Module):
    """`ridge.Head` on features, and the log-softmax of `predictor.HeadOn`, in float64."""

    _bias: Tensor
    _weights: Tensor

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.dims, self.step, self.clip = head.dims, 2**head.step_log2, head.clip
        self.register_buffer("_bias", torch.tensor(head.weights_dC[0]))
        self.register_buffer("_weights", torch.tensor(head.weights_dC[1:] / self.step))

    def forward(self, z_ND: Tensor) -> Tensor:
        """[N, at least dims] -> [N, C]."""
        q = torch.round(z_ND[:, : self.dims].double() * self.step).clamp(-self.clip, self.clip)
        scores = torch.matmul(q, self._weights) + self._bias
        return torch.log_softmax(SHARPNESS * scores, dim=1).float()


def _constant(weights: Array) -> nn.Conv2d:
    """A convolution without a bias, so that runtimes know it as one."""
    layer = nn.Conv2d(weights.shape[1], weights.shape[0], weights.shape[2:], bias=False)
    layer.weight.data = torch.from_numpy(np.ascontiguousarray(weights))
    layer.weight.requires_grad_(False)
    return layer


def _cells(length: int, grid: int) -> Array:
    """Which positions belong to which cell, 0 or 1, float32 [grid, length]."""
    edges = [length * cell // grid for cell in range(grid + 1)]
    place = np.arange(length)
    return np.stack([(place >= a) & (place < b) for a, b in pairwise(edges)]).astype(np.float32)
