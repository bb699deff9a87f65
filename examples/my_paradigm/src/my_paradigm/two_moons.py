"""Data set `two-moons`: two interleaved half circles with noise; made here, the same on every machine and at every time."""

import numpy as np

from kuberml.core.rng import rng
from kuberml.learning.datasets import Dataset, Part

SIZES = {"train": 800, "test": 400, "public": 100}
LOWEST, HIGHEST = np.array([-1.5, -1.0]), np.array([2.5, 1.5])


def read(split: str) -> Part:
    """One split: x float32 [N, 2] in 0..1, y 0 (upper) or 1 (lower)."""
    stream, count = rng(0, "two-moons", split), SIZES[split]
    y_N = np.arange(count) % 2
    angle_N = stream.uniform(0, np.pi, count)
    upper_N2 = np.stack([np.cos(angle_N), np.sin(angle_N)], axis=1)
    lower_N2 = np.stack([1 - np.cos(angle_N), 0.5 - np.sin(angle_N)], axis=1)
    x_N2 = np.where(y_N[:, None] == 0, upper_N2, lower_N2) + stream.normal(0, 0.15, (count, 2))
    return Part(np.clip((x_N2 - LOWEST) / (HIGHEST - LOWEST), 0, 1).astype(np.float32), y_N)


DATASET = Dataset(
    name="two-moons",
    labels=("upper", "lower"),
    shape=(2,),
    read=read,
    note="Two half circles, synthetic.",
    splits=("train", "test", "public"),
)
