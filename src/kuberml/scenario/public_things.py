"""What is public in a scenario: the frozen extractor and the probe, made once from samples that no learner owns."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from kuberml.core.errors import ConfigError
from kuberml.knowledge.kinds.extractor import Extractor
from kuberml.knowledge.kinds.probe import Probe
from kuberml.learning.datasets import DATASETS, samples
from kuberml.learning.extractors import identity, patch_filters
from kuberml.learning.types import DataRef
from kuberml.scenario.config import Config


class PublicThings:
    """Makes them when they are first asked for. The same scenario gives the same bytes for every seed."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._dataset = DATASETS.get(config.data.dataset)

    def get(self, name: str) -> Any:
        """Either of "extractor" and "probe".

        Raises:
            ConfigError: another name, or the scenario sets no public samples aside.
        """
        if name == "extractor":
            return self.extractor
        if name == "probe":
            return self.probe
        raise ConfigError(f"{name!r} is not a public thing: extractor or probe")

    @functools.cached_property
    def extractor(self) -> Extractor:
        """As `[extractor]` says, on the public samples in every domain of the scenario."""
        part = self._config.extractor
        options: dict[str, Any] = dict(part.options)
        if part.name == "patch-filters":
            return patch_filters(self._public_x(), **options)
        if part.name == "identity":
            return identity(int(np.prod(self._dataset.shape)))
        return Extractor(part.name, options)  # whatever is registered and made of settings alone

    @functools.cached_property
    def probe(self) -> Probe:
        """The public samples, each domain in turn; labels only if the scenario says so.

        Raises:
            ConfigError: the scenario sets no public samples aside.
        """
        count = self._config.data.public
        if not count:
            raise ConfigError("data.public = 0: a probe needs public samples; set for instance data.public = 200")
        levels = 16 if self._dataset.name == "digits" else 255
        domains = self._config.data.domains
        x_N = np.concatenate([samples(self._ref(count, domain)).x_N[i :: len(domains)] for i, domain in enumerate(domains)])
        return Probe(np.round(x_N * levels).astype(np.uint8), levels=levels)

    def _public_x(self) -> Any:
        return np.concatenate(
            [samples(self._ref(self._config.data.public, domain)).x_N for domain in self._config.data.domains]
        )

    def _ref(self, count: int, domain: str = "plain") -> DataRef:
        split = "public" if "public" in self._dataset.splits else "train"
        size = self._dataset.size(split)
        return DataRef(self._dataset.name, split, np.arange(min(count or size, size), dtype=np.int32), domain)
