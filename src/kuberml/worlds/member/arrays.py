"""Between the user's tensors and kuberml's arrays: torch keeps channels first, kuberml last. torch is used only if it is given.

Legend: N samples, C labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kuberml.core.errors import ConfigError
from kuberml.core.ids import LabelId
from kuberml.learning.predictor import align, log_softmax
from kuberml.learning.types import Array, IntArray

UNLIKELY = float(np.log(np.finfo(np.float32).tiny))
"""Log-probability of a label that a model does not know: finite, so that it can be averaged and differentiated."""


def is_tensor(x: Any) -> bool:
    """Whether it is a torch tensor, asked without importing torch."""
    return type(x).__module__.partition(".")[0] == "torch"


def inputs_from(x: Any) -> Array:
    """Samples as float32 [N, H, W, channels] or [N, features]; a tensor of images comes as [N, channels, H, W].

    Raises:
        ConfigError: neither images with a channel axis nor vectors; not numbers, or NaN or infinity among them.
    """
    try:
        found = np.asarray(x.detach().cpu().numpy() if is_tensor(x) else x, np.float32)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"samples are numbers, as many in each as in every other: {error}") from error
    if found.ndim not in (2, 4):
        axes = "[N, channels, H, W]" if is_tensor(x) else "[N, H, W, channels]"
        raise ConfigError(f"samples of shape {found.shape}: right are images {axes} or vectors [N, features]")
    if not np.isfinite(found).all():
        raise ConfigError("the samples have NaN or infinity in them")
    return np.ascontiguousarray(np.moveaxis(found, 1, -1)) if is_tensor(x) and found.ndim == 4 else found


def targets_from(y: Any) -> IntArray:
    """Labels of samples as int64 [N]. Raises ConfigError: not integers, or not one for each sample."""
    try:
        found = np.asarray(y.detach().cpu().numpy() if is_tensor(y) else y)
    except ValueError as error:
        raise ConfigError(f"labels of samples are integers, one for each: {error}") from error
    if found.dtype.kind not in "iu":
        names = ", so instead of names [labels.index(name) for name in y]" if found.dtype.kind in "UO" else ""
        raise ConfigError(f"labels of samples are integers, positions in the list of labels{names}; not {found.dtype}")
    if found.ndim != 1:
        raise ConfigError(f"labels of samples of shape {found.shape}: right is [N], one position for each sample")
    return found.astype(np.int64)


def tensor_from(x_N: Array) -> Any:
    """An array as a tensor, images with channels first."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x_N, -1, 1) if x_N.ndim == 4 else x_N))


def answers_of(model: Any, x_N: Array, labels: tuple[LabelId, ...]) -> Array:
    """What a user's model says about samples: log-probabilities, float32 [N, C], over `labels`.

    Args:
        model: a `torch.nn.Module` or another callable that returns logits [N, C] in the order of `labels`, or a predictor.
        x_N: float32 [N, ...], channels last.
        labels: names of the C classes.

    Raises:
        ConfigError: it cannot be called, or returns another shape, or NaN or infinity.
    """
    if hasattr(model, "predict") and hasattr(model, "labels"):
        return align(model.predict(x_N), tuple(model.labels), labels, missing=UNLIKELY)
    if not callable(model):
        raise ConfigError(
            f"a {type(model).__name__} cannot be called: give a torch module, or a function that takes samples [N, ...] and"
            f" returns logits [N, {len(labels)}] in the order of the labels"
        )
    found = _module_answers(model, x_N) if hasattr(model, "state_dict") else np.asarray(model(x_N))
    if found.shape != (len(x_N), len(labels)) or found.dtype.kind not in "fiu" or not np.isfinite(found).all():
        raise ConfigError(f"the model answers {found.shape}; right is [{len(x_N)}, {len(labels)}], logits, finite")
    return log_softmax(found)


def _module_answers(module: Any, x_N: Array) -> Array:
    import torch

    first = next(module.parameters(), None)
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            logits = module(tensor_from(x_N).to(first.device if first is not None else "cpu"))
    finally:
        module.train(was_training)
    return np.asarray(logits.float().cpu().numpy(), np.float32)
