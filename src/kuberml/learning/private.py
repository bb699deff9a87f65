"""Samples in memory as a data set of this process: how somebody's own arrays become a `DataRef` that jobs can read.

They are named by their content, so the caches of `learning.datasets` never mix them up, and they are known in this process
only: a reference to them that leaves it leads nowhere. They stay registered until the process ends.
"""

from __future__ import annotations

import numpy as np

from kuberml.core.errors import ConfigError
from kuberml.core.ids import LabelId
from kuberml.core.rng import rng
from kuberml.core.values import digest
from kuberml.learning.datasets import DATASETS, Dataset, Part
from kuberml.learning.types import Array, DataRef, IntArray

SPLIT = "train"


def private_data(x_N: Array, y_N: IntArray, labels: tuple[LabelId, ...], *, note: str = "") -> DataRef:
    """All of somebody's samples, by reference. They are copied.

    Args:
        x_N: float32 [N, H, W, channels] or [N, features], finite.
        y_N: int64 [N], positions in `labels`.
        labels: names of the classes of the task.
        note: what they are.

    Raises:
        ConfigError: no samples, shapes that do not fit, NaN or infinity, or a position outside `labels`.
    """
    if x_N.ndim not in (2, 4) or len(x_N) != len(y_N) or y_N.ndim != 1 or not len(y_N):
        raise ConfigError(
            f"x_N {x_N.shape} and y_N {y_N.shape}: right are [N, H, W, channels] or [N, features], and [N], N > 0"
        )
    if not np.isfinite(x_N).all():
        raise ConfigError("the samples have NaN or infinity in them")
    if not 0 <= int(y_N.min()) <= int(y_N.max()) < len(labels):
        raise ConfigError(f"labels of samples are {y_N.min()}..{y_N.max()}; {len(labels)} names allow 0..{len(labels) - 1}")
    part = Part(np.array(x_N, np.float32), np.array(y_N, np.int64))
    name = f"private-{digest([part.x_N, part.y_N, labels])[:32]}"
    shape = tuple(part.x_N.shape[1:])
    made = Dataset(name, labels, shape, read=lambda _: part, note=note or "private samples", splits=(SPLIT,))
    if name not in DATASETS:
        DATASETS.add(name, lambda: made)
    return DataRef(name, SPLIT, np.arange(len(y_N), dtype=np.int32))


def hold_back(every: DataRef, y_N: IntArray, share: float, seed: int) -> tuple[DataRef, DataRef]:
    """Split samples per label into (training, held out); a label with few samples trains.

    Args:
        every: the samples.
        y_N: int64 [N], their labels.
        share: of each label, held out; over 0 and under 1.
        seed: of the choice.

    Raises:
        ConfigError: a share that cannot be.
    """
    if not 0 < share < 1:
        raise ConfigError(
            f"heldout = {share!r}: the share that is held back for trials is over 0 and under 1, for instance 0.25"
        )
    stream, is_held_N = rng(seed, "heldout"), np.zeros(len(y_N), bool)
    for label in np.unique(y_N):
        mine = stream.permutation(np.flatnonzero(y_N == label))
        is_held_N[mine[: round(share * len(mine))]] = True
    parts = (every.indices_N[~is_held_N], every.indices_N[is_held_N])
    train, heldout = (DataRef(every.dataset, every.split, indices_N) for indices_N in parts)
    return train, heldout
