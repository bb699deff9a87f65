"""Bytes and accuracy of statistics on CIFAR-10: `KUBERML_DATA=... python benchmarks/packets.py` (under a minute).

Four contributors share 9,000 training images by Dirichlet(0.1). Each publishes one nested package; a receiver reads the same
prefix of all four, adds them up and solves, with the ridge chosen from the packets. The 10,000 images of batch 5 test the head
(this is not the official CIFAR-10 test set). The extractor, 200 whitened patch filters on a 2x2 grid, and its principal
components come from 1,000 public images that no contributor owns. "exact/s" is the exact profile with features rounded to 2^-s.
Bytes are the mean over contributors: a label that one of them lacks takes none.
"""

from __future__ import annotations

import time

import numpy as np
import zstandard

from kuberml.core.rng import rng
from kuberml.knowledge.card import Knowledge, encode_card
from kuberml.knowledge.kinds.extractor import basis_of
from kuberml.knowledge.kinds.statistics import Statistics, bytes_at, describe, merge_all, solve
from kuberml.knowledge.pack import make, open_value
from kuberml.knowledge.signing import Keys
from kuberml.learning.datasets import samples
from kuberml.learning.extractors import built
from kuberml.learning.image_extractors import patch_filters
from kuberml.learning.partitions import partition
from kuberml.learning.types import DataRef

PUBLIC, PRIVATE, TEST, CONTRIBUTORS, SEEDS = 1_000, 9_000, 10_000, 4, (0, 1, 2)
PILOT = {
    32: (1_782, 46.1),
    64: (5_590, 53.6),
    128: (19_350, 56.8),
    256: (71_446, 59.6),
    512: (273_942, 62.2),
    900: (830_722, 64.1),
}
"""Bytes and accuracy in % to reach: of a pilot on other images of CIFAR-10, tested on 2,000 (read +-1.1)."""

DIMS = tuple(PILOT)
STEPS = {"fp16": 8, "exact/8": 8, "exact/4": 4, "exact/3": 3, "exact/2": 2}


def some(split: str, count: int) -> DataRef:
    size = {"train": 40_000, "test": 10_000, "public": 1_000}[split]
    return DataRef("cifar10", split, np.sort(rng(0, split).permutation(size)[:count]).astype(np.int32))


def accuracy(stats: Statistics, z_Nd: np.ndarray, y_N: np.ndarray) -> float:
    return 100 * float((np.array(stats.labels)[solve(stats).scores(z_Nd).argmax(axis=1)] == y_N).mean())


def publish(stats: Statistics, author: int) -> Knowledge:
    keys = Keys(bytes([author]) * 32)
    return make("statistics", stats, keys=keys, task="cifar10", slot="shard", version=1, learned_at_ms=0)


def prefix_of(knowledge: Knowledge, dims: int) -> Knowledge:
    return Knowledge(knowledge.signed, (knowledge.blobs[0][: bytes_at(knowledge.card)[dims]],))


def main() -> None:
    began = time.perf_counter()
    public, train, test = samples(some("public", PUBLIC)), samples(some("train", PRIVATE)), samples(some("test", TEST))
    extractor = patch_filters(
        public.x_N, filters=200, grid=2, whitening=0.1, threshold=0.25, floor_ppm=154, components=max(DIMS)
    )
    feature_map, names = built(extractor), np.array(train.labels)
    full = [feature_map.net(part.x_N) for part in (train, test)]
    z_train, z_test = (feature_map.projection(z) for z in full)
    y_train, y_test = names[train.y_N], names[test.y_N]
    basis = basis_of(extractor)
    print(f"features after {time.perf_counter() - began:.0f} s; largest |z| {np.abs(z_train).max():.1f}")
    for name, step_log2 in STEPS.items():
        profile, scores = name.partition("/")[0], []
        for seed in SEEDS if step_log2 == 8 else SEEDS[:1]:
            parts = partition("dirichlet", train.y_N, CONTRIBUTORS, rng(seed, "partition"), alpha=0.1)
            packages = [
                publish(describe(z_train[part], y_train[part], basis=basis, profile=profile, step_log2=step_log2)[0], number)
                for number, part in enumerate(parts)
            ]
            prefixes = [[open_value(prefix_of(package, dims)) for package in packages] for dims in DIMS]
            scores.append([accuracy(merge_all(each), z_test, y_test) for each in prefixes])
        for column, (dims, (wanted_bytes, wanted)) in enumerate(PILOT.items()):
            size_bytes = np.mean([bytes_at(package.card)[dims] for package in packages])
            mean, spread = np.mean(scores, axis=0)[column], np.std(scores, axis=0)[column]
            reached = f"{size_bytes:9.0f} bytes ({wanted_bytes:7})  accuracy {mean:5.2f} +- {spread:4.2f} ({wanted})"
            print(f"{name:8} dims {dims:4} {reached}")
        ratio = np.mean([len(zstandard.compress(package.blobs[0], 19)) / len(package.blobs[0]) for package in packages])
        card_bytes, took_s = len(encode_card(packages[0].signed)), time.perf_counter() - began
        print(f"{name:8} card {card_bytes} bytes; zstd on top would leave {ratio:.3f}; {took_s:.0f} s")


if __name__ == "__main__":
    main()
