"""Is a scenario possible? Every refusal names the setting's dotted path, the value and what would be right."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec

from kuberml.core.errors import ConfigError, nearest
from kuberml.core.units import parse_size_bytes
from kuberml.learning.datasets import DATASETS
from kuberml.scenario.config import Config, Stream
from kuberml.scenario.names import check_names, known

LABEL_BYTES = 100
"""Of a paradigm's label: files are called after it."""

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


def check_possible(config: Config) -> None:
    """Refuse settings that are each right but impossible together, and names that nothing answers to.

    Raises:
        ConfigError: the first that is found.
    """
    _check_learners(config)
    check_names(config)
    _check_data(config)
    _check_world(config)
    _check_paradigms(config)


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


def _check_learners(config: Config) -> None:
    learners, places = config.learners, config.places
    if learners.liars >= learners.count:
        raise ConfigError(f"learners.liars = {learners.liars}: fewer than learners.count = {learners.count} must lie")
    if learners.adapter == "torch" and not learners.models:
        raise ConfigError("learners.models = []: name at least one architecture, for instance ['mlp']")
    if learners.adapter == "sklearn" and not learners.estimator:
        raise ConfigError(
            "learners.estimator is missing: adapter 'sklearn' needs it, 'sklearn.linear_model:LogisticRegression'"
        )
    if places.degree >= learners.count:
        raise ConfigError(
            f"places.degree = {places.degree}: at most learners.count - 1 = {learners.count - 1} neighbours exist"
        )
    if places.topology == "random-regular" and places.degree * learners.count % 2:
        raise ConfigError(f"places.degree = {places.degree}: with learners.count = {learners.count} it must be even")


def _check_data(config: Config) -> None:
    if not config.data.domains:
        raise ConfigError("data.domains = []: name at least one view, for instance ['plain']")
    if config.data.probe_labels and not config.data.public:
        raise ConfigError("data.probe_labels = true needs public samples: set data.public, for instance to 200")
    if config.data.stream is not None:
        _check_stream(config, config.data.stream)


def _check_stream(config: Config, stream: Stream) -> None:
    domains, labels = config.data.domains, len(DATASETS.get(config.data.dataset).labels)
    if stream.by == "domains" and stream.tasks != len(domains):
        raise ConfigError(
            f"data.stream.tasks = {stream.tasks}: with by = 'domains' a task is one of data.domains = {list(domains)}; set it"
            f" to {len(domains)}"
        )
    if len(set(domains)) < len(domains) and stream.by == "domains":
        raise ConfigError(f"data.domains = {list(domains)}: with data.stream.by = 'domains' each is a task, and comes once")
    if stream.by == "labels" and stream.tasks > labels:
        raise ConfigError(f"data.stream.tasks = {stream.tasks}: {config.data.dataset!r} has {labels} labels; no task is empty")
    if stream.tasks * stream.every_s > config.world.until_s:
        raise ConfigError(
            f"world.until_s = {config.world.until_s:g}: the last of data.stream.tasks = {stream.tasks} ends after"
            f" {stream.tasks * stream.every_s:g} s (every_s = {stream.every_s:g}); set it to that or more"
        )


def _check_world(config: Config) -> None:
    target = config.world.target
    if isinstance(target, str):
        known("world.target", target, config.paradigms)
    elif target is not None and not 0 < target <= 1:
        raise ConfigError(f"world.target = {target!r}: an accuracy is over 0 and at most 1 (0.9 for 90 %)")
    if config.world.schedule == "lockstep" and config.faults:
        raise ConfigError("world.schedule = 'lockstep': nothing fails in it; leave out [[faults]], or set it to 'free'")
    for i, fault in enumerate(config.faults):
        if fault.until_s is not None and fault.until_s <= fault.at_s:
            raise ConfigError(f"faults[{i}].until_s = {fault.until_s}: it must end after at_s = {fault.at_s}")


def _check_paradigms(config: Config) -> None:
    if not config.paradigms:
        raise ConfigError("no paradigms: add at least one table, for instance [paradigms.local]")
    for label in config.paradigms:
        if not 1 <= len(label.encode()) <= LABEL_BYTES or "/" in label or not label.isprintable():
            raise ConfigError(
                f"paradigms.{label!r:.60}: a label names files too: 1 to {LABEL_BYTES} bytes, nothing unprintable, no '/'"
            )
