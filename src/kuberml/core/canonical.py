"""Canonical bytes: one value, one encoding, on every machine. What digests and signatures stand on.

MessagePack with map keys sorted and shortest integers. Floats are refused (their text and their NaNs differ between
machines): send scaled integers. Sets are refused (they have no order).
"""

from __future__ import annotations

from typing import Any

import msgspec

from kuberml.core.errors import InternalError, RemoteError

MAX_DEPTH = 16
_encoder = msgspec.msgpack.Encoder(order="deterministic")


def encode(value: object) -> bytes:
    """The canonical bytes of None, bool, int, str, bytes, lists, tuples, dicts with str keys, and msgspec structs of these.

    Raises:
        InternalError: a float, a set or another type is inside.
    """
    plain = msgspec.to_builtins(value, builtin_types=(bytes,), str_keys=False)
    _check(plain, 0)
    return _encoder.encode(plain)


def decode(data: bytes) -> Any:
    """The value of canonical bytes.

    Raises:
        RemoteError: not MessagePack, or not canonical (another encoding of the same value would have another digest).
    """
    try:
        value = msgspec.msgpack.decode(data)
        if encode(value) != data:
            raise RemoteError("bytes are not in canonical form")
    except (msgspec.DecodeError, InternalError, RecursionError, UnicodeError, TypeError) as error:
        raise RemoteError(f"not canonical bytes: {error}") from error
    return value


def _check(value: object, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InternalError(f"nested deeper than {MAX_DEPTH}: not canonical")
    if value is None or isinstance(value, bool | int | str | bytes):
        return
    if isinstance(value, list | tuple):
        for item in value:
            _check(item, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InternalError(f"canonical maps have text keys, not {key!r}")
            _check(item, depth + 1)
    else:
        raise InternalError(f"{type(value).__name__} has no canonical form: {value!r:.60}")
