"""Which paradigm a scenario's table means, and its options as that paradigm's own `Config`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import sysconfig
from collections.abc import Sequence
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

import msgspec

from kuberml.core.errors import ConfigError, nearest
from kuberml.core.plugins import Registry
from kuberml.core.reading import read
from kuberml.exchange.policies.table import check as check_policy
from kuberml.exchange.steps.options import Steps
from kuberml.exchange.steps.table import Collects
from kuberml.exchange.steps.table import check as check_steps
from kuberml.paradigms import roles
from kuberml.paradigms.options import Handing
from kuberml.scenario.config import Config


def only(config: Config, labels: Sequence[str]) -> Config:
    """The scenario with these of its paradigms, in its own order; all of them where none is named.

    Raises:
        ConfigError: it has no such paradigm.
    """
    for label in labels:
        if label not in config.paradigms:
            raise ConfigError(f"--paradigm {label}: {nearest(label, config.paradigms)}")
    chosen = {label: one for label, one in config.paradigms.items() if not labels or label in labels}
    return msgspec.structs.replace(config, paradigms=chosen)


def paradigm_of(use: str, paradigms: Registry[Any]) -> ModuleType:
    """The module of a paradigm: a registered name, or "my_file.py" beside the scenario (its folder is on the import path).

    Raises:
        ConfigError: nothing answers to the name, or the file cannot be imported.
    """
    if not use.endswith(".py"):
        if use not in paradigms:
            raise ConfigError(f"unknown paradigm {use!r}; {nearest(use, paradigms.names())}")
        module: ModuleType = paradigms.get(use)
        return module
    name = use.removesuffix(".py")
    if not name.isidentifier():
        raise ConfigError(f"use = {use!r}: name a file beside the scenario by letters, digits and '_' alone, 'my_idea.py'")
    if is_library(name):
        raise ConfigError(f"use = {use!r}: {name!r} is also a library's name, and who imports it gets one or the other: rename")
    if importlib.util.find_spec(name) is None:
        raise ConfigError(f"no file {use} beside the scenario: `kuberml new paradigm {use}` writes one")
    try:
        return importlib.import_module(name)
    except (ImportError, SyntaxError) as error:
        raise ConfigError(f"{use} cannot be imported: {error}") from error


def is_library(name: str) -> bool:
    """Whether a module of Python's or an installed one is called that.

    A file of that name cannot just be loaded under another: it lies on the import path, also of worker processes, which look
    for jobs by name; there it would stand in the way of the library.
    """
    paths = sysconfig.get_paths()
    found = PathFinder.find_spec(name, [paths["purelib"], paths["platlib"]])
    return name in sys.stdlib_module_names or (found is not None and found.origin is not None)


def check_options(config: Config, paradigms: Registry[Any]) -> dict[str, msgspec.Struct]:
    """Each paradigm's own options by label, as the `Config` struct that its module exports.

    Raises:
        ConfigError: an unknown paradigm, or an option that it does not have or cannot take.
    """
    return {label: _options(config, label, paradigms) for label in config.paradigms}


def _options(config: Config, label: str, paradigms: Registry[Any]) -> msgspec.Struct:
    try:
        module: Any = paradigm_of(config.paradigms[label].use, paradigms)
    except ConfigError as error:
        raise ConfigError(f"paradigms.{label}: {error}") from error
    struct: Any = getattr(module, "Config", None)
    if not (isinstance(struct, type) and issubclass(struct, msgspec.Struct)):
        raise ConfigError(f"paradigms.{label}: {module.__name__} has no Config: a paradigm exports its options as a struct")
    names = {field.encode_name for field in msgspec.structs.fields(struct)}
    said = config.options_of(label, names)
    try:
        if "update_steps" in said and "update_steps" not in names:
            check_steps(read(Steps, {"names": said["update_steps"]}, f"paradigms.{label}"), _collects(module))
        options = read(struct, said, f"paradigms.{label}")
        if getattr(options, "needs_probe", False) and not config.data.public:
            raise ConfigError("it asks about public samples, and data.public = 0: set it, for instance to 200")
        if isinstance(options, Handing):
            check_steps(options.chain, options.collects)
            check_policy(
                options.policy, options.late, options.offload, options.chain, options.collects, offloads=options.offloads
            )
    except ConfigError as error:
        prefix = f"paradigms.{label}"
        raise error if prefix in str(error) else ConfigError(f"{prefix}: {error}") from error
    return options


def _collects(module: Any) -> Collects:
    """How a paradigm without the option `update_steps` comes by updates: without a server it is gossip."""
    return "own" if "server" in roles(module) else "gossip"
