"""Plain data, as a TOML file or a caller gives it, as a struct: checked key by key, every refusal with its dotted path."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec

from kuberml.core.errors import ConfigError, nearest
from kuberml.core.units import parse_size_bytes

T = TypeVar("T", bound=msgspec.Struct)


def read(struct: type[T], tree: Any, path: str = "") -> T:
    """`tree` as a `struct`, checked key by key, so that every message can say where and what.

    A field whose name ends in `_bytes` also takes a size as text ("64 KB").

    Raises:
        ConfigError: an unknown, missing or unfitting setting.
    """
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} = {tree!r}: a table is needed here")
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    for name in tree:
        if name not in fields:
            raise ConfigError(f"unknown setting {_under(path, name)} = {tree[name]!r}; {nearest(str(name), fields)}")
    for name, field in fields.items():
        if field.required and name not in tree:
            raise ConfigError(f"the setting {_under(path, name)} is missing")
    return struct(**{name: _item(fields[name].type, tree[name], _under(path, name)) for name in tree})


def _under(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _item(kind: Any, raw: Any, path: str) -> Any:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return read(kind, raw, path)
    parts = get_args(kind)
    if parts and isinstance(parts[0], type) and issubclass(parts[0], msgspec.Struct) and parts[1:] == (type(None),):
        return read(parts[0], raw, path)  # a table that may be left out
    inner = parts[-1] if get_origin(kind) is dict else parts[0] if get_origin(kind) is tuple else None
    if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
        return _structs(inner, get_origin(kind), raw, path)
    if get_origin(kind) is Literal and raw not in parts:
        raise ConfigError(f"{path} = {raw!r}: {nearest(str(raw), map(str, parts))}")
    if path.endswith("_bytes") and isinstance(raw, str):
        return _size_bytes(raw, path)
    if isinstance(raw, float) and not math.isfinite(raw):
        raise ConfigError(f"{path} = {raw!r}: a finite number is needed here")
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path} = {raw!r}: {_plain(error)}") from error


def _structs(struct: type[msgspec.Struct], container: Any, raw: Any, path: str) -> Any:
    if container is dict:
        if not isinstance(raw, dict):
            raise ConfigError(f"{path} = {raw!r}: tables are needed here, [{path}.name]")
        return {name: read(struct, item, f"{path}.{name}") for name, item in raw.items()}
    if not isinstance(raw, list):
        raise ConfigError(f"{path} = {raw!r}: a list of tables is needed here, [[{path}]]")
    return tuple(read(struct, item, f"{path}[{i}]") for i, item in enumerate(raw))


def _size_bytes(raw: str, path: str) -> int:
    try:
        return parse_size_bytes(raw)
    except ConfigError as error:
        raise ConfigError(f"{path} = {raw!r}: {error}") from error


def _plain(error: msgspec.ValidationError) -> str:
    text = str(error).replace("`", "")
    return text[:1].lower() + text[1:]
