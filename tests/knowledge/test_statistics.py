"""The algebra's laws on real packages: exact sums, order, removal, prefixes."""

import numpy as np
import pytest

from kuberml.core.ids import digest_of
from kuberml.core.rng import rng
from kuberml.knowledge.card import Knowledge
from kuberml.knowledge.kinds.statistics import Statistics, describe, merge, prefix, remove
from kuberml.knowledge.pack import make, open_value
from kuberml.knowledge.signing import Keys

BASIS = digest_of(b"extractor")
KEYS = Keys(bytes(range(32)))


def packet(seed: int, count: int = 40, dims: int = 12, profile: str = "exact") -> Statistics:
    draw = rng(seed, "packet")
    labels = [f"label {i}" for i in draw.integers(0, 3, count)]
    stats, _ = describe(draw.normal(size=(count, dims)), labels, basis=BASIS, profile=profile)
    return stats


def publish(stats: Statistics, *, version: int = 1) -> Knowledge:
    return make("statistics", stats, keys=KEYS, task="test", slot="shard", version=version, learned_at_ms=1)


@pytest.mark.parametrize("profile", ["exact", "fp16"])
def test_what_is_packed_is_what_is_opened_and_a_prefix_is_a_smaller_packet(profile: str) -> None:
    stats = packet(1, profile=profile)
    knowledge = publish(stats)
    assert open_value(knowledge).digest == stats.digest
    cut = Knowledge(knowledge.signed, (knowledge.blobs[0][: knowledge.card.blobs[0].cuts[0]],))
    assert open_value(cut).digest == prefix(stats, 8).digest


@pytest.mark.parametrize("profile", ["exact", "fp16"])
def test_removing_equals_never_having_merged(profile: str) -> None:
    a, b = packet(1, profile=profile), packet(2, profile=profile)
    assert remove(merge(a, b), b).digest == a.digest
    assert merge(a, b).digest == merge(b, a).digest


def test_the_sums_are_those_of_the_pooled_samples() -> None:
    draw = rng(3, "pool")
    z_Nd, labels = draw.normal(size=(60, 5)), ["a", "b", "c"] * 20
    pooled, _ = describe(z_Nd, labels, basis=BASIS)
    parts = [describe(z_Nd[i : i + 30], labels[i : i + 30], basis=BASIS)[0] for i in (0, 30)]
    assert merge(*parts).digest == pooled.digest
    assert np.array_equal(pooled.gram_dd, pooled.gram_dd.T)
