"""Is a scenario possible? Every refusal names the setting's dotted path, the value and what would be right."""

from __future__ import annotations

from kuberml.core.errors import ConfigError
from kuberml.learning.datasets import DATASETS
from kuberml.scenario.config import Config, Stream
from kuberml.scenario.names import check_names, known

LABEL_BYTES = 100
"""Of a paradigm's label: files are called after it."""


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
