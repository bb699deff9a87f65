"""Small packets for the tests of statistics: reproducible samples, their statistics, signed packages."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kuberml.core.ids import Digest, digest_of
from kuberml.core.rng import rng
from kuberml.knowledge.card import Knowledge
from kuberml.knowledge.kinds.statistics import Statistics, describe
from kuberml.knowledge.pack import make
from kuberml.knowledge.signing import Keys

BASIS = digest_of(b"extractor")
KEYS = Keys(bytes(range(32)))


def keys(author: int) -> Keys:
    """A fixed key pair for each number."""
    return Keys(author.to_bytes(32, "little"))


def samples(seed: int, count: int = 40, dims: int = 12, labels: Sequence[str] = ("a", "b", "c")) -> tuple[Any, list[str]]:
    """Features [count, dims] with a mean that depends on the label, and labels, at least `count // len(labels)` of each."""
    draw = rng(seed, "samples")
    at_N = np.arange(count) % len(labels)
    return draw.normal(size=(count, dims)) + 0.5 * at_N[:, None], [labels[at] for at in at_N]


def packet(seed: int, count: int = 40, dims: int = 12, **options: Any) -> Statistics:
    """The statistics of `samples`."""
    labels = options.pop("labels", ("a", "b", "c"))
    return describe(*samples(seed, count, dims, labels), basis=BASIS, **options)[0]


def publish(
    value: Any, *, author: int = 1, slot: str = "shard", version: int = 1, parents: tuple[Digest, ...] = ()
) -> Knowledge:
    """A signed package of statistics."""
    return make(
        "statistics", value, keys=keys(author), task="test", slot=slot, version=version, learned_at_ms=1, parents=parents
    )
