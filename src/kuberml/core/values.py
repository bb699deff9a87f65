"""Values that travel between jobs, worker processes, memory and resume: plain data and numpy arrays, never a pickle.

`dumps` is deterministic, so `digest` of a value is its identity: a job's result is remembered by the digest of its inputs.
A frozen `msgspec.Struct` takes part once it is registered:

    @value
    class Head(msgspec.Struct, frozen=True):
        weights_dC: np.ndarray
        labels: tuple[str, ...]

Arrays come back read-only: a state is never changed in place, it is replaced.
This codec is for our own processes and files. What comes from outside is read by `knowledge`, with checks.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
import numpy as np

from kuberml.core.errors import InternalError
from kuberml.core.ids import Digest, digest_of

_ARRAY, _STRUCT, _TUPLE = 1, 2, 3
_DTYPES = frozenset("?bhilqBHILQefd")
_structs: dict[str, type[msgspec.Struct]] = {}
_encoder = msgspec.msgpack.Encoder(order="deterministic")

S = TypeVar("S", bound=type[msgspec.Struct])


def value(cls: S) -> S:
    """Class decorator: instances of this frozen struct may travel. The module and name identify it."""
    _structs[_name(cls)] = cls
    return cls


def modules() -> frozenset[str]:
    """Names of the modules that registered structs: another process imports them before it loads a value."""
    return frozenset(cls.__module__ for cls in _structs.values())


def dumps(item: object) -> bytes:
    """Deterministic bytes of None, bool, int, float, str, bytes, list, tuple, dict (str keys), ndarray or `@value` struct.

    Raises:
        InternalError: another type is inside.
    """
    return _encoder.encode(_lower(item))


def loads(data: bytes | memoryview) -> Any:
    """The value of `dumps` bytes. Arrays are read-only views of `data`.

    Raises:
        InternalError: not written by `dumps`, or a struct whose module is not imported.
    """
    try:
        return msgspec.msgpack.decode(data, ext_hook=_raise)
    except msgspec.DecodeError as error:
        raise InternalError(f"damaged value: {error}") from error


def digest(item: object) -> Digest:
    """BLAKE3 of the value's bytes."""
    return digest_of(dumps(item))


def frozen(item: Any) -> Any:
    """A read-only copy of a value: what memory and jobs hold."""
    return loads(dumps(item))


def _name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _lower(item: Any) -> Any:  # noqa: PLR0911 - one return for each form
    if item is None or isinstance(item, bool | int | float | str | bytes):
        return item
    if isinstance(item, np.ndarray):
        return msgspec.msgpack.Ext(_ARRAY, _array_bytes(item))
    if isinstance(item, np.generic):
        return item.item()
    if isinstance(item, tuple):
        return msgspec.msgpack.Ext(_TUPLE, _encoder.encode([_lower(part) for part in item]))
    if isinstance(item, list):
        return [_lower(part) for part in item]
    if isinstance(item, dict):
        return {_text(key): _lower(part) for key, part in item.items()}
    if isinstance(item, msgspec.Struct) and _name(type(item)) in _structs:
        fields = {name: _lower(getattr(item, name)) for name in item.__struct_fields__}
        return msgspec.msgpack.Ext(_STRUCT, _encoder.encode([_name(type(item)), fields]))
    raise InternalError(f"a {type(item).__name__} cannot travel between jobs: use plain data, arrays or an @value struct")


def _text(key: object) -> str:
    if not isinstance(key, str):
        raise InternalError(f"a travelling dict has text keys, not {key!r}")
    return key


def _array_bytes(array: np.ndarray[Any, Any]) -> bytes:
    if array.dtype.char not in _DTYPES:
        raise InternalError(f"arrays of dtype {array.dtype} do not travel")
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    header = _encoder.encode([array.dtype.str, list(array.shape)])
    return len(header).to_bytes(2, "little") + header + array.tobytes()


def _raise(code: int, data: memoryview) -> Any:
    if code == _TUPLE:
        return tuple(msgspec.msgpack.decode(data, ext_hook=_raise))
    if code == _ARRAY:
        start = 2 + int.from_bytes(data[:2], "little")
        dtype, shape = msgspec.msgpack.decode(data[2:start])
        return np.frombuffer(bytes(data[start:]), dtype=dtype).reshape(shape)
    name, fields = msgspec.msgpack.decode(data, ext_hook=_raise)
    if name not in _structs:
        raise InternalError(f"unknown value type {name}: is its module imported?")
    return _structs[name](**fields)
