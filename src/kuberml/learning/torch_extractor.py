"""Extractor `torch-module`: the answers of a registered torch architecture, or of one of its layers, with frozen weights.

The value carries a name, settings and one flat state. The name must be *registered* here (`models.MODELS`, so also a user's
entry point): a value that arrives from a peer never names what is imported. Importing this module does not import torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.knowledge.kinds.extractor import Extractor
from kuberml.learning.models import MODELS, need_torch
from kuberml.learning.torch_learner import TorchLearner
from kuberml.learning.types import Array

TORCH = "torch-module"
_BATCH = 256
_MAX_OUTPUTS = 65_536


class _Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: str
    shape: str  # JSON list of whole numbers
    outputs: int
    options: str  # JSON object
    layer: str


def torch_module(learner: TorchLearner, state: Array, *, layer: str = "", half: bool = True) -> Extractor:
    """The extractor that a trained network is, up to one of its layers.

    Args:
        learner: with a registered architecture.
        state: of the learner, float32 [P].
        layer: name of a submodule ("features.3") whose answers, flattened, are the features; "" = the logits.
        half: keep the state as float16: half the bytes, rounded once, here.

    Raises:
        ConfigError: an architecture that is not registered, no such layer, or a state of another size.
    """
    if ":" in learner.architecture:
        raise ConfigError(
            f"model {learner.architecture!r}: receivers build registered models only; register it as a kuberml.models"
        )
    options = json.dumps(learner.options, sort_keys=True)
    settings = _Settings(learner.architecture, json.dumps(list(learner.shape)), len(learner.labels), options, layer)
    with np.errstate(over="ignore"):  # what overflows becomes infinite and is refused by name
        kept = np.asarray(state, np.float16 if half else np.float32)
    if not np.isfinite(kept).all():
        raise ConfigError("the state does not fit float16: use half=False")
    extractor = Extractor(TORCH, msgspec.to_builtins(settings), {"state": kept})
    try:
        build_torch_module(extractor)
    except RemoteError as error:
        raise ConfigError(str(error)) from error
    return extractor


def make_torch_module(public_N: Array, seed: int, *, model: str, outputs: int, layer: str = "", **options: Any) -> Extractor:
    """A registered model with the weights of its own initialisation from `seed`, for samples shaped like `public_N`."""
    learner = TorchLearner(model, tuple(public_N.shape[1:]), tuple(map(str, range(outputs))), options)
    return torch_module(learner, learner.init(seed), layer=layer)


@dataclass(frozen=True)
class TorchFeatures:
    """A network, its weights and the layer to read: x [N, ...] -> z [N, dimensions], with one thread."""

    learner: TorchLearner
    state: Array
    layer: str
    dimensions: int

    def flops(self, shape: tuple[int, ...]) -> int:
        """Of a forward pass of the whole network, an upper bound for a layer."""
        return self.learner.flops_per_sample

    def __call__(self, x_N: Array) -> Array:
        """float32 [N, dimensions]. Raises ConfigError: samples of another shape than the network is for."""
        if x_N.shape[1:] != self.learner.shape:
            raise ConfigError(f"the extractor is for samples of shape {self.learner.shape}, not {x_N.shape[1:]}")
        batches = [_answers(self.learner, self.state, self.layer, x_N[i : i + _BATCH]) for i in range(0, len(x_N), _BATCH)]
        return np.concatenate(batches) if batches else np.empty((0, self.dimensions), np.float32)


def build_torch_module(extractor: Extractor) -> TorchFeatures:
    """The function of a `torch-module` value.

    Raises:
        RemoteError: settings and state that do not belong together, or a name that is no registered architecture.
        MissingExtra: torch is not installed.
    """
    need_torch(f"the extractor {TORCH!r}")
    learner, layer = _learner(extractor)
    state = extractor.tensors.get("state")
    if set(extractor.tensors) != {"state"} or state is None or state.dtype not in (np.float16, np.float32):
        raise RemoteError(f"a {TORCH} has one tensor, state, of float16 or float32")
    wide = state.astype(np.float32)
    try:
        z_1d = _answers(learner, wide, layer, np.zeros((1, *learner.shape), np.float32))
    except ConfigError as error:
        raise RemoteError(f"a {TORCH} that cannot be built: {error}") from error
    return TorchFeatures(learner, wide, layer, z_1d.shape[1])


def _learner(extractor: Extractor) -> tuple[TorchLearner, str]:
    try:
        settings = msgspec.convert(extractor.facts, _Settings)
        shape = msgspec.json.decode(settings.shape, type=tuple[int, ...])
        options = msgspec.json.decode(settings.options, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise RemoteError(f"a {TORCH} with settings that cannot be: {error}") from error
    if ":" in settings.model or settings.model not in MODELS:
        raise RemoteError(f"a {TORCH} names the model {settings.model!r:.80}, which is not registered here")
    if not 1 <= settings.outputs <= _MAX_OUTPUTS or not shape or min(shape) < 1 or int(np.prod(shape)) > 2**24:
        raise RemoteError(f"a {TORCH} of shape {shape} with {settings.outputs} outputs")
    return TorchLearner(settings.model, shape, tuple(map(str, range(settings.outputs))), options), settings.layer


def _answers(learner: TorchLearner, state: Array, layer: str, x_N: Array) -> Array:
    import torch

    from kuberml.learning.torch_scratch import one_job, scratch_of

    seen: list[Any] = []
    with one_job(0), torch.no_grad():
        scratch = scratch_of(learner)
        scratch.load(state)
        scratch.module.eval()
        try:
            part = scratch.module.get_submodule(layer)
        except AttributeError as error:
            raise ConfigError(f"model {learner.architecture!r} has no layer {layer!r}: {error}") from error
        hook = part.register_forward_hook(lambda module, inputs, out: seen.append(out))
        try:
            scratch.module(scratch.inputs(x_N))
        finally:
            hook.remove()
        if not seen or not isinstance(seen[-1], torch.Tensor):
            raise ConfigError(f"layer {layer!r} of model {learner.architecture!r} answers no tensor")
        return np.array(seen[-1].reshape(len(x_N), -1).float().numpy())
