"""What the publishers of the town publish: each package is a pure function of (publisher, slot, version).

Small statistics of real digits, so that "applied twice" shows as a wrong sum, and larger weights, so that a kill finds a
transfer under way.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from kuberml.core.ids import Digest, digest_of
from kuberml.core.rng import rng
from kuberml.knowledge.kinds.statistics import Statistics, describe, merge_all
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.signing import Keys
from kuberml.learning.sources.digits import DATASET

TASK = "digits"
BASIS = digest_of(b"digits, 2 x 2 pixels averaged")
SLOTS = 8
BIG = "big"
BIG_FLOATS = 1_000_000
SEED = 3


def keys_of(node: str) -> Keys:
    """A member's keys, the same in every process of the town."""
    return Keys(node.encode().ljust(32, b"\0")[:32])


def content(publisher: str, slot: str, version: int) -> Statistics | Weights:
    """The package."""
    draw = rng(SEED, "faults", publisher, slot, version)
    if slot == BIG:
        return Weights({"w": draw.standard_normal(BIG_FLOATS, dtype=np.float32)}, {"3": 10})
    # The differences of versions stand on enough samples too: a version has one label, and it or its count is new.
    features_Nd, labels_N = _digits()
    label, count = str((version + int(slot)) % 10), 5 * (1 + version // 10)
    mine_N = draw.choice(np.flatnonzero(labels_N == int(label)), count, replace=False)
    return describe(features_Nd[mine_N], [label] * count, basis=BASIS)[0]


@cache
def statistics(publisher: str, slot: str, version: int) -> Statistics:
    """The same of a slot that has statistics."""
    made = content(publisher, slot, version)
    assert isinstance(made, Statistics)
    return made


def total(places: list[tuple[str, str, int]]) -> Digest | None:
    """Digest of the sum of these packages, each once; None: of none."""
    return merge_all([statistics(*place) for place in places]).digest if places else None


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    part = DATASET.read("train")
    images_NHW = part.x_N[..., 0].astype(np.float64) / 16
    return images_NHW.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(len(images_NHW), 16), np.asarray(part.y_N)
