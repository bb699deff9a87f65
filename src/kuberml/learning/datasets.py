"""Data sets by name, and samples by reference.

`samples(DataRef("digits", "train", indices))` is what a job reads: float32 in memory, in the view and with the labels of the
reference. A data set keeps its splits as small as they came (bytes, mapped files); only what is referred to becomes floats.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kuberml.core.errors import ConfigError, nearest
from kuberml.core.ids import LabelId
from kuberml.core.plugins import Registry
from kuberml.core.recent import Recent
from kuberml.learning.datafiles import AnyArray, data_root, set_data_root
from kuberml.learning.types import DataRef, IntArray, Samples
from kuberml.learning.views import VIEWS, viewed

__all__ = ["DATASETS", "VIEWS", "Dataset", "Part", "data_root", "samples", "set_data_root"]

_CACHE_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Part:
    """One split as it is kept.

    Attributes:
        x_N: uint8 or float32 [N, ...]; `scale` times it are the inputs.
        y_N: positions in the data set's labels, integers [N].
        scale: 1/255 for bytes of an image, 1 for vectors that are ready.
        group_N: positions in the data set's groups, integers [N]; None without natural owners.
    """

    x_N: AnyArray
    y_N: AnyArray
    scale: float = 1.0
    group_N: AnyArray | None = None


@dataclass(frozen=True)
class Dataset:
    """A registered data set.

    Attributes:
        labels: names of the C classes, in the order of `Samples.y_N`.
        shape: of one sample: (height, width, channels) or (features,).
        read: split -> Part; called once per process and split. Raises ConfigError where files are missing.
        note: source, licence and what the splits are; belongs in every report that uses it.
        splits: names; "public" is a part that no learner owns: filters and probes are made of it.
        groups: names of natural owners (hospitals, writers); () if there are none.
    """

    name: str
    labels: tuple[LabelId, ...]
    shape: tuple[int, ...]
    read: Callable[[str], Part]
    note: str
    splits: tuple[str, ...] = ("train", "test")
    groups: tuple[str, ...] = ()

    def part(self, split: str) -> Part:
        """The split as it is kept. Raises ConfigError: there is no such split, or its files are missing."""
        if split not in self.splits:
            raise ConfigError(f"data set {self.name!r} has no split {split!r}; {nearest(split, self.splits)}")
        return _part(self, split)

    def size(self, split: str) -> int:
        """Number of samples of a split."""
        return len(self.part(split).y_N)

    def ref(self, split: str) -> DataRef:
        """All samples of a split, by reference."""
        return DataRef(self.name, split, np.arange(self.size(split), dtype=np.int32))

    def split(self, split: str) -> Samples:
        """All samples of a split in memory: 4 bytes times the numbers in it (CIFAR-10 train: 0.5 GB)."""
        return samples(self.ref(split))

    def owners(self, split: str) -> IntArray:
        """Natural owner of each sample, int64 [N], positions in `groups`. Raises ConfigError: there are none."""
        group_N = self.part(split).group_N
        if group_N is None:
            raise ConfigError(f"data set {self.name!r} has no natural groups: use another partition than 'natural'")
        return np.asarray(group_N, np.int64)


def _source(module: str) -> Callable[[], Dataset]:
    def load() -> Dataset:
        import importlib

        found: Dataset = importlib.import_module(f"kuberml.learning.sources.{module}").DATASET
        return found

    return load


DATASETS: Registry[Dataset] = Registry("data set", "kuberml.datasets")
for _name in ("digits", "fashion-mnist", "cifar10", "omniglot", "heart-disease"):
    DATASETS.add(_name, _source(_name.replace("-", "_")))


def samples(ref: DataRef) -> Samples:
    """The samples of a reference, read-only; the last 256 MiB of them are remembered.

    Raises:
        ConfigError: unknown data set, split, view or label; an index outside the split; files missing.
    """
    key = (ref.dataset, ref.split, ref.view, tuple(sorted(ref.relabel.items())), ref.indices_N.tobytes())
    return _recent.get(key, lambda: _read(ref))


def _read(ref: DataRef) -> Samples:
    dataset = DATASETS.get(ref.dataset)
    part = dataset.part(ref.split)
    index_N, count = np.asarray(ref.indices_N, np.int64), len(part.y_N)
    if index_N.ndim != 1 or (index_N.size and not 0 <= index_N.min() <= index_N.max() < count):
        raise ConfigError(f"indices of {ref.dataset}/{ref.split} must be a list of 0..{count - 1}")
    y_N = _relabelled(part.y_N[index_N].astype(np.int64), ref.relabel, dataset)
    x_N = viewed(part.x_N[index_N].astype(np.float32) * np.float32(part.scale), ref.view, dataset.name)
    x_N.flags.writeable = y_N.flags.writeable = False
    return Samples(x_N, y_N, dataset.labels)


def _relabelled(y_N: IntArray, relabel: dict[LabelId, LabelId], dataset: Dataset) -> IntArray:
    place = {name: position for position, name in enumerate(dataset.labels)}
    new_C = np.arange(len(place))
    for name, called in relabel.items():
        for label in (name, called):
            if label not in place:
                raise ConfigError(f"relabel: {dataset.name!r} has no label {label!r}; {nearest(label, place)}")
        new_C[place[name]] = place[called]
    renamed: npt.NDArray[np.int64] = new_C[y_N]
    return renamed


@functools.cache
def _part(dataset: Dataset, split: str) -> Part:
    return dataset.read(split)


_recent: Recent[Samples] = Recent(_CACHE_BYTES, lambda kept: kept.x_N.nbytes)
