"""`--set a.b=c`: one setting of a scenario from the command line, in TOML's own value syntax, bare words allowed."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from kuberml.core.errors import ConfigError


def apply(tree: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """A copy of `tree` with every setting put in, later ones over earlier ones.

    Raises:
        ConfigError: a setting is not `path=value`, or its path goes through something that is not a table.
    """
    whole: dict[str, Any] = copy.deepcopy(dict(tree))
    for setting in settings:
        path, value = split(setting)
        _put(whole, path, value, setting)
    return whole


def split(setting: str) -> tuple[tuple[str, ...], Any]:
    """Path and value of one setting.

    `learners.count=20` is an integer, `data.domains=["plain"]` a list, `places.links=flash-wifi` and `name="x"` text.

    Raises:
        ConfigError: not of the form path=value.
    """
    dotted, equals, text = setting.partition("=")
    path = tuple(part.strip().strip('"') for part in dotted.split("."))
    if not equals or not all(path):
        raise ConfigError(f"--set {setting}: write a path, '=' and a value, for instance --set learners.count=20")
    return path, _value(text.strip())


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        if text[:1] in ("[", "{", '"', "'"):
            raise ConfigError(f"--set: {text!r} begins like a TOML list, table or text but is none") from None
        return text


def _put(tree: dict[str, Any], path: tuple[str, ...], value: Any, setting: str) -> None:
    *above, last = path
    for depth, name in enumerate(above, start=1):
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {setting}: {'.'.join(path[:depth])} is not a table")
    tree[last] = value
