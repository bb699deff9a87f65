"""What is public in a scenario: the frozen extractor and the probe, made once from samples that no learner owns."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import numpy as np

from kuberml.core.errors import ConfigError
from kuberml.knowledge.kinds.extractor import Extractor
from kuberml.knowledge.kinds.probe import Probe, probe_from
from kuberml.learning.datasets import DATASETS, samples
from kuberml.learning.extractors import make_extractor
from kuberml.learning.types import DataRef, Samples
from kuberml.scenario.config import Config

LEVELS = {"digits": 16, "omniglot": 1}
"""Grey values of a data set beyond 0, where they are not 255: fewer bits on the wire."""


class PublicThings:
    """Makes them when they are first asked for. The same scenario gives the same bytes for every seed."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._dataset = DATASETS.get(config.data.dataset)

    def there(self, names: Iterable[str]) -> list[str]:
        """Those of some names that this scenario has: a probe only where it sets public samples aside."""
        return [name for name in names if name != "probe" or self._config.data.public]

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
        return make_extractor(part.name, self._public_x(), options.pop("seed", 0), **options)

    @functools.cached_property
    def probe(self) -> Probe:
        """The public samples, each domain in turn; labels only if the scenario says so.

        Raises:
            ConfigError: the scenario sets no public samples aside.
        """
        count = self._config.data.public
        if not count:
            raise ConfigError("data.public = 0: a probe needs public samples; set for instance data.public = 200")
        parts = [self._public(domain) for domain in self._config.data.domains]
        every = len(parts)
        x_N = np.concatenate([part.x_N[i:count:every] for i, part in enumerate(parts)])
        names = [part.labels[y] for i, part in enumerate(parts) for y in part.y_N[i:count:every]]
        return probe_from(x_N, names if self._config.data.probe_labels else None, levels=LEVELS.get(self._dataset.name, 255))

    def _public_x(self) -> Any:
        if "public" not in self._dataset.splits:
            return np.zeros((1, *self._dataset.shape), np.float32)  # enough for what is made of settings and a shape alone
        return np.concatenate([self._public(domain).x_N for domain in self._config.data.domains])

    def _public(self, domain: str) -> Samples:
        if "public" not in self._dataset.splits:
            raise ConfigError(f"data set {self._dataset.name!r} has no public samples: nothing can be probed or built on them")
        indices = np.arange(self._dataset.size("public"), dtype=np.int32)
        return samples(DataRef(self._dataset.name, "public", indices, domain))
