"""CIFAR-10 (Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images): colour images 32x32 of ten classes.

The data folder has all five training batches and only the first 1,000 of the official test images. Therefore: **train is
batches 1-4, test is batch 5** (10,000 images), public is those 1,000. A score on it is not "CIFAR-10 test accuracy".
"""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np

from kuberml.core.errors import ConfigError
from kuberml.learning.datafiles import AnyArray, DataFile, cached, locate
from kuberml.learning.datasets import Dataset, Part

NAME = "cifar10"
_BATCHES = (
    DataFile("cifar10/train_1.u8.xz", "6b54ff538b7add9871f226b0b4ff54c6007ac8317a654f094e4c4de381202c8d"),
    DataFile("cifar10/train_2.u8.xz", "9a636936d385395b935b7753efd6c6b2bb2f8f5adf99bd28b39c3bd6f61241e7"),
    DataFile("cifar10/train_3.u8.xz", "14acfd0185ea17e72ce1ceeaa270b970a3d9f101b19ce49226153d148c4def27"),
    DataFile("cifar10/train_4.u8.xz", "274aca709db5bca885d2398a403271bca27d90ab5b70244dca26ccf65c8d46af"),
    DataFile("cifar10/train_5.u8.xz", "33f3ffdbd1b170987db1dbce9e141be310e0421b2d8dfbd92e88479648cd392d"),
)
_FIRST_1000 = DataFile("cifar10/test_first1000.u8.xz", "6b656b7b3924cc519ae9d226e04a119f5b6a95a617d595bf2f9dd72f7cdf3ce1")
_LABELS = DataFile("cifar10/labels.npz", "368ee4d0af728e81c18997d03571891f497359f2b6a1ecb1aa7b8ebf46d885ed")
_BATCH = 10_000


def read_planes(path: Path) -> AnyArray:
    """uint8 [N, 32, 32, 3] of an xz file of planes (R-G, G, B-G), differenced down, then across, modulo 256.

    Raises:
        ConfigError: its content is not a whole number of images.
    """
    flat = np.frombuffer(lzma.decompress(path.read_bytes()), np.uint8)
    if flat.size == 0 or flat.size % (3 * 32 * 32):
        raise ConfigError(f"{path} does not hold whole images of 3 x 32 x 32 bytes")
    planes = flat.reshape(3, -1, 32, 32).cumsum(2, dtype=np.uint8).cumsum(3, dtype=np.uint8)
    return np.stack([planes[0] + planes[1], planes[1], planes[2] + planes[1]], axis=-1)


def _images(*files: DataFile) -> AnyArray:
    paths = [locate(file, NAME) for file in files]
    return cached(f"{NAME}-1-{files[0].sha256}-{len(files)}", lambda: np.concatenate([read_planes(path) for path in paths]))


def _read(split: str) -> Part:
    with np.load(locate(_LABELS, NAME), allow_pickle=False) as file:
        y_N, y_first = file["train"], file["test_first1000"]
    if split == "public":
        return Part(_images(_FIRST_1000), y_first, scale=1 / 255)
    if split == "test":
        return Part(_images(_BATCHES[4]), y_N[4 * _BATCH :], scale=1 / 255)
    return Part(_images(*_BATCHES[:4]), y_N[: 4 * _BATCH], scale=1 / 255)


DATASET = Dataset(
    name=NAME,
    labels=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    shape=(32, 32, 3),
    read=_read,
    note=(
        "CIFAR-10 (Krizhevsky 2009): train = batches 1-4 of the official training set, test = its batch 5, public = the first "
        "1,000 official test images, which no learner owns. Not the official test accuracy."
    ),
    splits=("train", "test", "public"),
)
