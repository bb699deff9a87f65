"""Values that travel between jobs, worker processes, memory and resume: plain data and numpy arrays, never a pickle.

`dumps` is deterministic, so `digest` of a value is its identity: a job's result is remembered by the digest of its inputs.
A frozen `msgspec.Struct` takes part once it is registered:

    @value
    class Head(msgspec.Struct, frozen=True):
        weights_dC: np.ndarray
        labels: tuple[str, ...]

Arrays come back read-only: a state is never changed in place, it is replaced. numpy scalars come back as Python's.
This codec is for our own processes and files. What comes from outside is read by `knowledge`, with checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, TypeVar

import blake3
import msgspec
import numpy as np

from kuberml.core.errors import ConfigError, InternalError
from kuberml.core.ids import Digest

_ARRAY, _STRUCT, _TUPLE, _HELD = 1, 2, 3, 4
_DTYPES = frozenset("?bhilqBHILQefd")
_DTYPE_NAMES = frozenset(np.dtype(char).newbyteorder("<").str for char in _DTYPES)  # text is never given to numpy to parse
_MAX_DEPTH = 64
_FEW, _FIXED = 15, {1: 0xD4, 2: 0xD5, 4: 0xD6, 8: 0xD7, 16: 0xD8}
"""Of MessagePack: entries that a map of the short form has, and how extensions of these sizes begin."""
_LARGE = 4096
"""Bytes that `frozen` hands on as they are."""
_PLAIN = frozenset({bool, int, float, str, bytes})
_DAMAGE = (msgspec.DecodeError, ValueError, TypeError, OverflowError, RecursionError)
"""What malformed bytes can raise in msgspec, in numpy and in a struct's constructor (Unicode errors are ValueErrors)."""

_Array: TypeAlias = np.ndarray[Any, Any]

_structs: dict[str, type[msgspec.Struct]] = {}
_names: dict[type, str] = {}  # the same, the other way round
_encoder = msgspec.msgpack.Encoder(order="deterministic")

S = TypeVar("S", bound=type[msgspec.Struct])


def value(cls: S) -> S:
    """Class decorator: instances of this frozen struct may travel. The module and name identify it.

    Raises:
        ConfigError: the struct is not frozen, or inside a function: another process could not find it.
    """
    if not cls.__struct_config__.frozen:
        raise ConfigError(f"{cls.__qualname__} travels as a value, so it must be declared with frozen=True")
    if "<locals>" in cls.__qualname__:
        raise ConfigError(f"{cls.__qualname__} must be a top-level class: other processes import it by name")
    name = f"{cls.__module__}:{cls.__qualname__}"
    _names.pop(_structs.get(name, cls), None)  # of a module that is loaded anew, only the new one travels
    _structs[name], _names[cls] = cls, name
    return cls


def modules() -> frozenset[str]:
    """Names of the modules that registered structs: another process imports them before it loads a value."""
    return frozenset(cls.__module__ for cls in _structs.values())


def dumps(item: object) -> bytes:
    """Deterministic bytes of None, bool, int, float, str, bytes, list, tuple, dict (str keys), ndarray or `@value` struct.

    Raises:
        InternalError: another type is inside (a masked or structured array, a complex number, a set), an integer of more
            than 64 bits, text that is not Unicode, or more than 64 levels.
    """
    try:
        return _encoder.encode(_lower(item, 0))
    except (OverflowError, UnicodeEncodeError) as error:
        raise InternalError(f"cannot travel between jobs: {error}") from error


def loads(data: bytes | memoryview) -> Any:
    """The value of `dumps` bytes. Arrays are read-only and aligned, and share nothing with `data`.

    Damage that leaves well-formed bytes (a flipped bit inside an array) is not seen here: where that matters, the reader
    knows the digest.

    Raises:
        InternalError: malformed, or a struct whose module is not imported.
    """
    try:
        return _decode(data)
    except _DAMAGE as error:
        raise InternalError(f"damaged value: {error}") from error


def digest(item: object) -> Digest:
    """BLAKE3 of the value's bytes. Large arrays that lie in a struct are not copied for it, and other threads go on."""
    hasher = blake3.blake3()
    for piece in _pieces(item):
        hasher.update(piece)
    return Digest(hasher.hexdigest())


def frozen(item: Any) -> Any:
    """A read-only copy of a value, as `loads(dumps(item))` gives it: what memory and jobs hold.

    Arrays are copied once; one that `loads` or `frozen` gave is not copied, since nobody can change it.

    Raises:
        InternalError: as `dumps`.
    """
    held: list[_Array | bytes] = []
    try:
        return _decode(_encoder.encode(_lower(item, 0, held)), held)
    except (OverflowError, UnicodeEncodeError) as error:
        raise InternalError(f"cannot travel between jobs: {error}") from error


def _lower(item: Any, depth: int, held: list[_Array | bytes] | None = None) -> Any:  # noqa: PLR0911 - one return for each form
    """Plain data and `Ext`. Arrays go into `held`, if that is given, and only their places into the data."""
    if held is not None and type(item) is bytes and len(item) > _LARGE:
        return _hold(item, held)
    if item is None or type(item) in _PLAIN:
        return item
    if depth >= _MAX_DEPTH:
        raise InternalError(f"nested deeper than {_MAX_DEPTH}: cannot travel between jobs")
    if isinstance(item, np.ndarray):
        if held is None:
            return msgspec.msgpack.Ext(_ARRAY, _array_bytes(item))
        return _hold(_unchanging(_checked(item)), held)
    if isinstance(item, np.generic) and (item.dtype.char in _DTYPES or isinstance(item, np.str_)):
        return item.item()
    if type(item) is tuple:
        return msgspec.msgpack.Ext(_TUPLE, _encoder.encode([_lower(part, depth + 1, held) for part in item]))
    if type(item) is list:
        return [_lower(part, depth + 1, held) for part in item]
    if isinstance(item, dict):
        return {_text(key): _lower(part, depth + 1, held) for key, part in item.items()}
    if type(item) in _names:
        fields = {name: _lower(getattr(item, name), depth + 1, held) for name in item.__struct_fields__}
        return msgspec.msgpack.Ext(_STRUCT, _encoder.encode([_names[type(item)], fields]))
    raise InternalError(f"a {type(item).__name__} cannot travel between jobs: use plain data, arrays or an @value struct")


def _hold(item: _Array | bytes, held: list[_Array | bytes]) -> msgspec.msgpack.Ext:
    held.append(item)
    return msgspec.msgpack.Ext(_HELD, _encoder.encode(len(held) - 1))


def _text(key: object) -> str:
    if type(key) is not str:
        raise InternalError(f"a travelling dict has text keys, not {key!r}")
    return key


def _pieces(item: Any) -> list[Any]:
    """The bytes of `dumps`, in pieces: an array of a struct is one."""
    if type(item) not in _names:
        return [dumps(item)]
    fields = sorted(item.__struct_fields__)
    if len(fields) > _FEW:
        return [dumps(item)]
    pieces: list[Any] = [b"\x92", _encoder.encode(_names[type(item)]), bytes([0x80 | len(fields)])]
    for name in fields:
        pieces.append(_encoder.encode(name))
        part = getattr(item, name)
        if isinstance(part, np.ndarray):
            array = _checked(part)
            start = _array_start(array)
            pieces += [_ext_start(_ARRAY, len(start) + array.nbytes), start]
            pieces += [array.reshape(-1).view(np.uint8).data] if array.size else []
        else:
            pieces.append(dumps(part))
    return [_ext_start(_STRUCT, sum(map(len, pieces))), *pieces]


def _ext_start(code: int, size: int) -> bytes:
    """What MessagePack writes before the content of an extension of so many bytes."""
    if size in _FIXED:
        return bytes([_FIXED[size], code])
    wide = 1 if size < 1 << 8 else 2 if size < 1 << 16 else 4
    return bytes([{1: 0xC7, 2: 0xC8, 4: 0xC9}[wide]]) + size.to_bytes(wide, "big") + bytes([code])


def _checked(array: _Array) -> _Array:
    """An array that may travel, little-endian and in C order."""
    if array.dtype.char not in _DTYPES or isinstance(array, np.ma.MaskedArray):
        raise InternalError(f"a {type(array).__name__} of dtype {array.dtype} does not travel")
    if array.dtype.str.startswith(">"):
        array = array.astype(array.dtype.newbyteorder("<"))
    return array if array.flags.c_contiguous else array.copy(order="C")


def _array_bytes(array: _Array) -> bytes:
    array = _checked(array)
    return b"".join((_array_start(array), array.data if array.size else b""))


def _array_start(array: _Array) -> bytes:
    header = _encoder.encode([array.dtype.str, list(array.shape)])
    return len(header).to_bytes(2, "little") + header


def _unchanging(array: _Array) -> _Array:
    """The array itself if nobody can change it, since it lies in `bytes` or in a copy of ours; else such a copy.

    numpy copies without holding the interpreter, unlike `tobytes`: while a gigabyte is frozen, other threads go on.
    """
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    owner: Any = base.obj if isinstance(base, memoryview) else base
    kept = type(owner) in (bytes, _Kept)
    if kept and type(array) is np.ndarray and array.flags.aligned:
        return array
    if not array.size:
        return np.frombuffer(b"", array.dtype.str).reshape(array.shape)
    copy: Any = np.empty(array.size, array.dtype.str).view(_Kept)
    copy[:] = array.reshape(-1)
    return np.frombuffer(memoryview(copy).toreadonly(), array.dtype.str).reshape(array.shape)


class _Kept(np.ndarray[Any, Any]):
    """A copy that only a read-only view is given of."""


def _decode(data: bytes | memoryview, held: Sequence[_Array | bytes] = ()) -> Any:
    return msgspec.msgpack.decode(data, ext_hook=lambda code, inner: _raise(code, inner, held))


def _raise(code: int, data: memoryview, held: Sequence[_Array | bytes]) -> Any:
    if code == _TUPLE:
        return tuple(_decode(data, held))
    if code == _ARRAY:
        return _array(data)
    if code == _HELD and held:
        return held[_decode(data)]
    if code != _STRUCT:
        raise ValueError(f"unknown form {code}")
    name, fields = _decode(data, held)
    if name not in _structs:
        raise InternalError(f"unknown value type {name}: is its module imported?")
    return _structs[name](**fields)


def _array(data: memoryview) -> _Array:
    start = 2 + int.from_bytes(data[:2], "little")
    dtype, shape = _decode(data[2:start])
    if dtype not in _DTYPE_NAMES or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"no array has dtype {dtype} and shape {shape}")
    return np.frombuffer(bytes(data[start:]), dtype=dtype).reshape(shape)
