"""How nodes learn together: one file each, one async function per role.

A paradigm is a module that exports `Config` (a frozen msgspec struct: its options) and one coroutine per role, called with
(node, config): `server` and `client`, or just `peer`; and `library`, if the node that keeps what is public does more than that.
Nothing else: no base class, no registration beyond its name. A package of yours adds one by an entry point in the group
`kuberml.paradigms`; see examples/my_paradigm.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from importlib import import_module
from types import ModuleType
from typing import Any

from kuberml.core.errors import ConfigError
from kuberml.core.plugins import Registry

ROLES = ("server", "client", "peer", "library")
PARADIGMS: Registry[ModuleType] = Registry("paradigm", "kuberml.paradigms")

for _name in (
    *("local", "centralised"),
    *("fedavg", "fedavg-head", "one-shot", "fed3r", "fedprox", "scaffold", "fedadam", "fedyogi", "feddf"),
    *("fedasync", "fedbuff", "split", "splitfed", "fedproto", "fedpft", "qkt"),
    *("dpsgd", "adpsgd", "epidemic", "divshare", "aedfl"),
    *("frozen", "sequential", "fedavg-replay", "joint"),
    *("kuber", "continual"),
):
    _module = f"kuberml.paradigms.{_name.replace('-', '_')}"
    PARADIGMS.add(_name, lambda module=_module: import_module(module))  # type: ignore[misc]

Role = Callable[[Any, Any], Coroutine[Any, Any, None]]


def roles(paradigm: ModuleType) -> dict[str, Role]:
    """The roles that a paradigm's module plays.

    Raises:
        ConfigError: it has none, or no Config.
    """
    found = {name: getattr(paradigm, name) for name in ROLES if hasattr(paradigm, name)}
    if not found or not hasattr(paradigm, "Config"):
        raise ConfigError(f"{paradigm.__name__} is not a paradigm: it needs a Config and one of {', '.join(ROLES)}")
    return found
