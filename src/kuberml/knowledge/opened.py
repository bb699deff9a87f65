"""Opened values that several nodes of one process use: a package is unpacked, with all its checks, once and not by each.

Who opens a package has checked its card and its bytes before; the same card and the same lengths of blobs then say what the
value is. Only what nobody can change is shared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

import msgspec
import numpy as np

from kuberml.core.ids import Digest
from kuberml.core.recent import Recent

Name = tuple[Digest, tuple[int, ...]]
"""A card, and how long the blobs are that came: of a nested package there may be less."""

RECENT_BYTES = 16 << 20
"""Of blobs whose values are kept for who comes next, also while nobody uses them: a cohort fetches one model one by one."""

_in_use: WeakValueDictionary[Name, Any] = WeakValueDictionary()
"""Where their struct allows weak references. They are handed out as they are: others remember things beside them."""
_recent: Recent[tuple[Any, int]] = Recent(RECENT_BYTES, lambda kept: kept[1])


def shared(card: Digest, blobs: tuple[bytes, ...], unpack: Callable[[], Any]) -> Any:
    """The value of a package: the one that others use, or what `unpack` gives; it raises what `unpack` raises."""
    name = card, tuple(len(blob) for blob in blobs)
    found = _in_use.get(name)
    if found is not None:
        return found
    found, _ = _recent.get(name, lambda: _weighed(unpack(), sum(name[1])))
    if isinstance(found, msgspec.Struct) and found.__struct_config__.weakref:
        _in_use[name] = found
        return found
    return _lent(found)


def _weighed(value: Any, size_bytes: int) -> tuple[Any, int]:
    """What cannot be shared is heavier than all that is kept."""
    weak = isinstance(value, msgspec.Struct) and value.__struct_config__.weakref
    return value, RECENT_BYTES + 1 if weak or not _cannot_change(value) else size_bytes


def _cannot_change(value: Any) -> bool:
    """Whether nobody can change it, or only maps that `_lent` makes anew."""
    if not isinstance(value, msgspec.Struct) or not value.__struct_config__.frozen:
        return False
    parts = [part for field in msgspec.structs.astuple(value) for part in (field.values() if type(field) is dict else [field])]
    return all(_is_fixed(part) for part in parts)


def _is_fixed(part: Any) -> bool:
    if isinstance(part, np.ndarray):
        return not part.flags.writeable
    if type(part) is tuple:
        return all(_is_fixed(one) for one in part)
    return part is None or type(part) in (str, int, float, bool, bytes)


def _lent(value: Any) -> Any:
    """The same with maps of its own: who is given it may change those."""
    if not isinstance(value, msgspec.Struct):
        return value
    maps = {name: dict(part) for name in value.__struct_fields__ if type(part := getattr(value, name)) is dict}
    return msgspec.structs.replace(value, **maps) if maps else value
