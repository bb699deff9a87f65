"""A flat state [P] as Flower's named arrays, and back, checked against the layout that was agreed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from kuberml.core.errors import ConfigError, MissingExtra, RemoteError
from kuberml.core.values import value
from kuberml.learning.types import Array


@value
class Layout(msgspec.Struct, frozen=True):
    """Names and shapes of a model's arrays, in the order in which a state holds them; all are float32 in a state."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """Numbers in a state."""
        return sum(int(np.prod(shape)) for shape in self.shapes)


def layout_of(arrays: Mapping[str, Any]) -> Layout:
    """Of a model's arrays by name. Raises ConfigError: there are none, or one is not of floating point numbers."""
    if not arrays:
        raise ConfigError("a Flower model without arrays cannot be averaged")
    for name, array in arrays.items():
        if np.asarray(array).dtype.kind != "f":
            raise ConfigError(f"the array {name!r} is of {np.asarray(array).dtype}: only floating point arrays are averaged")
    return Layout(tuple(arrays), tuple(tuple(np.asarray(array).shape) for array in arrays.values()))


def flat(arrays: Mapping[str, Any], layout: Layout) -> Array:
    """One float32 vector [P] of arrays in this layout.

    Raises:
        RemoteError: others, of other shapes, or not finite.
    """
    if set(arrays) != set(layout.names):
        raise RemoteError(f"arrays {sorted(arrays)!r:.200} came, not {sorted(layout.names)!r:.200}")
    parts = []
    for name, shape in zip(layout.names, layout.shapes, strict=True):
        array = np.asarray(arrays[name])
        if tuple(array.shape) != shape or array.dtype.kind != "f" or not np.isfinite(array).all():
            raise RemoteError(f"the array {name!r} is {array.dtype} {array.shape}; {shape} of finite floats is right")
        parts.append(array.astype(np.float32).ravel())
    return np.concatenate(parts)


def named(state_P: Array, layout: Layout) -> dict[str, Array]:
    """The arrays of a state. Raises RemoteError: it is of another size."""
    if state_P.shape != (layout.size,):
        raise RemoteError(f"a state of shape {state_P.shape} does not fit {layout.size} numbers")
    arrays, start = {}, 0
    for name, shape in zip(layout.names, layout.shapes, strict=True):
        count = int(np.prod(shape))
        arrays[name] = state_P[start : start + count].reshape(shape)
        start += count
    return arrays


def record_of(arrays: Mapping[str, Array]) -> Any:
    """As Flower's ArrayRecord."""
    app = flower("flwr.app")
    return app.ArrayRecord({name: app.Array(np.ascontiguousarray(array)) for name, array in arrays.items()})


def arrays_in(record: Any) -> dict[str, Any]:
    """What is in Flower's ArrayRecord. Raises RemoteError: an array is damaged, or would have to be unpickled."""
    try:
        return {name: array.numpy() for name, array in record.items()}
    except (ValueError, TypeError, EOFError, OSError) as error:
        raise RemoteError(f"an array of a Flower message cannot be read: {error}") from error


def flower(module: str) -> Any:
    """A module of the package `flwr`. Raises MissingExtra: it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra("talking to Flower", "flower") from error


def named_thing(path: str, what: str) -> Any:
    """What "package.module:name" names, as a user's own scenario says.

    Raises:
        ConfigError: there is no such thing.
        MissingExtra: it needs Flower, which is not installed.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, ValueError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "flwr":
            raise MissingExtra(f"{what} = {path!r}", "flower") from error
        raise ConfigError(f"{what} = {path!r}: write 'package.module:name'; {error}") from error
