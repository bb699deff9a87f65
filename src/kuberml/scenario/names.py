"""Does something answer to every name in a scenario? Asked of the tables and registries themselves, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable

from kuberml.core.errors import ConfigError, nearest
from kuberml.learning.datasets import DATASETS, VIEWS
from kuberml.learning.extractors import EXTRACTORS
from kuberml.learning.models import MODELS
from kuberml.learning.partitions import partition_options
from kuberml.scenario.config import Config
from kuberml.worlds.simulated.devices import device_tables
from kuberml.worlds.simulated.faults import WHATS
from kuberml.worlds.simulated.graphs import KINDS
from kuberml.worlds.simulated.networks import link_tables


def check_names(config: Config) -> None:
    """Refuse names that nothing answers to, and partitions that the data set cannot have.

    Raises:
        ConfigError: the first that is found; it names the setting, the value and the nearest right name.
    """
    data, places = config.data, config.places
    known("data.dataset", data.dataset, DATASETS.names())
    known("data.partition", data.partition, partition_options())
    for option in data.options:
        known("data.options", option, partition_options()[data.partition])
    for view in data.domains:
        known("data.domains", view, VIEWS)
    known("places.devices", places.devices, device_tables())
    known("places.server_device", places.server_device, device_tables())
    known("places.links", places.links, link_tables())
    known("places.server_link", places.server_link, link_tables())
    known("places.topology", places.topology, KINDS)
    known("extractor.name", config.extractor.name, EXTRACTORS.names())
    for model in (*config.learners.models, config.common_model):
        if config.learners.adapter == "torch" and ":" not in model:  # with a colon: the user's own module
            known("learners.models", model, MODELS.names())
    for i, fault in enumerate(config.faults):
        known(f"faults[{i}].what", fault.what, WHATS)
    _check_partition(config)


def known(path: str, value: str, names: Iterable[str]) -> None:
    """Raise ConfigError unless `value` is one of `names`; `path` says which setting it is."""
    choices = sorted(names)
    if value not in choices:
        raise ConfigError(f"{path} = {value!r} is not known; {nearest(value, choices)}")


def _check_partition(config: Config) -> None:
    data, count = config.data, config.learners.count
    dataset = DATASETS.get(data.dataset)
    if data.partition == "natural" and not dataset.groups:
        raise ConfigError(f"data.partition = 'natural': the data set {data.dataset!r} has no natural owners")
    if data.partition == "natural" and count > len(dataset.groups):
        raise ConfigError(f"learners.count = {count}: {data.dataset!r} has only {len(dataset.groups)} natural owners")
    per_learner = data.options.get("per_learner", 0)
    if data.partition == "labels" and isinstance(per_learner, int) and per_learner > len(dataset.labels):
        raise ConfigError(f"data.options.per_learner = {per_learner}: {data.dataset!r} has {len(dataset.labels)} labels")
