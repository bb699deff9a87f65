"""Canonical bytes: one value, one encoding, on every machine. What digests and signatures stand on.

MessagePack with map keys in the order of their UTF-8 bytes and shortest forms. Floats are refused (their text and their NaNs
differ between machines): send scaled integers. Sets are refused (they have no order), and so is whatever would silently
become text (dates, enumerations, numpy scalars).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from kuberml.core.errors import InternalError, RemoteError

MAX_DEPTH = 16
_PLAIN, _LISTS = frozenset({type(None), bool, str, bytes}), (list, tuple)
_LEAST, _MOST = -(2**63), 2**64 - 1
_encoder = msgspec.msgpack.Encoder(order="sorted")


def encode(value: object) -> bytes:
    """The canonical bytes of None, bool, int, str, bytes, lists, tuples, dicts with str keys, and msgspec structs of these.

    A struct has the bytes of the dict of its fields, a tuple those of the list.

    Raises:
        InternalError: a float, a set or another type is inside, an integer outside -2^63 .. 2^64 - 1, text that is not
            Unicode (a lone surrogate), or more than MAX_DEPTH levels.
    """
    _check_all((value,), 0)
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError as error:
        raise InternalError(f"text has no canonical form: {error}") from error


def decode(data: bytes) -> Any:
    """The value of canonical bytes.

    Raises:
        RemoteError: not MessagePack, or not canonical (another encoding of the same value would have another digest).
    """
    try:
        value = msgspec.msgpack.decode(data)
        again = encode(value)
    except (msgspec.DecodeError, InternalError, RecursionError, UnicodeDecodeError) as error:
        raise RemoteError(f"not canonical bytes: {error}") from error
    if again != data:
        raise RemoteError("bytes are not in canonical form")
    return value


def _check(value: object, depth: int) -> None:
    if isinstance(value, _LISTS):
        _check_all(value, depth + 1)
    elif isinstance(value, dict):
        for key in value:
            if type(key) is not str:
                raise InternalError(f"canonical maps have text keys, not {key!r}")
        _check_all(value.values(), depth + 1)
    elif isinstance(value, msgspec.Struct):
        _check_all(msgspec.structs.astuple(value), depth + 1)
    else:
        raise InternalError(f"{type(value).__name__} has no canonical form: {value!r:.60}")


def _check_all(items: Collection[object], depth: int) -> None:
    """Most of what a card holds is text and numbers: a call for each would take longer than encoding it."""
    if items and depth > MAX_DEPTH:
        raise InternalError(f"nested deeper than {MAX_DEPTH}: not canonical")
    for item in items:
        sort = type(item)
        if sort is int:
            if not _LEAST <= item <= _MOST:  # type: ignore[operator]
                raise InternalError(f"an integer of {item.bit_length()} bits has no canonical form")  # type: ignore[attr-defined]
        elif sort not in _PLAIN:
            _check(item, depth)
