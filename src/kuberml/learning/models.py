"""Architectures by name: `build("lenet", (28, 28, 1), 10)` is a `torch.nn.Module` that answers logits.

A module takes float32 [N, channels, H, W] for images and [N, features] for vectors, and returns logits [N, C]. A registered
architecture is a function `(shape, classes, **options) -> Module`, `shape` being (H, W, channels) or (features,).
Anybody's own module works by the name "package.module:Class" (any callable that returns a Module): it is called with the
options, and with `shape` and `classes` where its signature has them. That name comes from a user's scenario or code;
knowledge that arrives from a peer never names what is imported (an arriving state is a flat vector, see `torch_learner`).
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from kuberml.core.errors import ConfigError, MissingExtra
from kuberml.core.plugins import Registry

if TYPE_CHECKING:
    from torch.nn import Module

Architecture = Callable[..., "Module"]

MODELS: Registry[Architecture] = Registry("model", "kuberml.models")


def _built_in(name: str) -> Callable[[], Architecture]:
    def load() -> Architecture:
        need_torch(f"the model {name!r}")
        from kuberml.learning import torch_models

        return cast(Architecture, getattr(torch_models, name))

    return load


for _name in ("linear", "mlp", "lenet", "cnn", "resnet8"):
    MODELS.add(_name, _built_in(_name))


def need_torch(what: str) -> None:
    """Check that PyTorch is installed, without importing it.

    Raises:
        MissingExtra: it is not; `what` is named as what needs it.
    """
    if importlib.util.find_spec("torch") is None:
        raise MissingExtra(what, "torch")


def build(architecture: str, shape: tuple[int, ...], classes: int, options: Mapping[str, Any] | None = None) -> Module:
    """A new module with the weights of its own initialisation, drawn from torch's current generator.

    Args:
        architecture: a registered name, or "package.module:Class" of your own.
        shape: of one sample, (H, W, channels) or (features,).
        classes: number of logits.
        options: keyword arguments of the architecture.

    Raises:
        ConfigError: no such architecture, it does not take these options, or it does not fit the shape.
        MissingExtra: torch is not installed.
    """
    need_torch(f"the model {architecture!r}")
    maker = _own(architecture) if ":" in architecture else MODELS.get(architecture)
    given = dict(options or {})
    if ":" in architecture:
        known = inspect.signature(maker).parameters
        given |= {key: item for key, item in (("shape", shape), ("classes", classes)) if key in known}
    else:
        given |= {"shape": shape, "classes": classes}
    try:
        return _full(maker(**given))
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        asked = f"shape {shape}, {classes} classes and options {dict(options or {})}"
        raise ConfigError(f"model {architecture!r} cannot be built for {asked}: {error}") from error


def _full(module: Module) -> Module:
    """The module itself. Raises TypeError, ValueError: it is none, or a layer has nothing in it, so that nothing is learned."""
    if not hasattr(module, "named_parameters"):
        raise TypeError(f"a {type(module).__name__} came out, not a torch.nn.Module")
    empty = [name for name, part in module.named_parameters() if not part.numel()]
    if empty:
        raise ValueError(f"{empty[0]} is empty")
    return module


def _own(architecture: str) -> Architecture:
    module, _, attribute = architecture.partition(":")
    try:
        maker = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"model {architecture!r} is not an importable 'package.module:Class': {error}") from error
    if not callable(maker):
        raise ConfigError(f"model {architecture!r} is a {type(maker).__name__}, not a class or function that makes a Module")
    return cast(Architecture, maker)
