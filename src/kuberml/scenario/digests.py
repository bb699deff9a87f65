"""What a scenario is, as digests: two results may be compared when the right ones are equal."""

from __future__ import annotations

from typing import Any

import msgspec

from kuberml.core import values
from kuberml.core.ids import Digest
from kuberml.scenario.config import Config


def scenario_digest(config: Config) -> Digest:
    """Identity of everything in a scenario that a result depends on: not its name, workers or audit.

    What came to scenarios later counts only where it is used, so that digests stay.
    """
    tree = msgspec.to_builtins(config)
    tree["data"] = _data(config)
    tree["learners"] = {name: item for name, item in tree["learners"].items() if (name, item) != ("device", "cpu")}
    tree["world"] = {name: item for name, item in tree["world"].items() if name not in ("workers", "audit")}
    return values.digest({name: item for name, item in tree.items() if name != "name"})


def data_digest(config: Config) -> Digest:
    """Identity of the experiment's data: task, data set, partition, who holds what, and who lies about it."""
    learners = config.learners
    who = [learners.count, learners.liars, learners.min_class_count]
    return values.digest([config.task, _data(config), who])


def _data(config: Config) -> dict[str, Any]:
    """The table, without a stream that is none."""
    tree: dict[str, Any] = msgspec.to_builtins(config.data)
    return {name: item for name, item in tree.items() if name != "stream" or item is not None}
