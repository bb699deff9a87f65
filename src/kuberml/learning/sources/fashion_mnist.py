"""Fashion-MNIST (Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747): 70,000 grey images 28x28 of ten sorts of clothing."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from kuberml.core.errors import ConfigError
from kuberml.learning.datafiles import AnyArray, DataFile, cached, locate
from kuberml.learning.datasets import Dataset, Part

NAME = "fashion-mnist"
PUBLIC = 2_000
_ORIGIN = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"


def _file(name: str, sha256: str, size_bytes: int) -> DataFile:
    return DataFile(f"fashion_mnist/{name}", sha256, _ORIGIN + name, size_bytes)


FILES = {
    "train-x": _file(
        "train-images-idx3-ubyte.gz", "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26421880
    ),
    "train-y": _file("train-labels-idx1-ubyte.gz", "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29515),
    "test-x": _file("t10k-images-idx3-ubyte.gz", "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4422102),
    "test-y": _file("t10k-labels-idx1-ubyte.gz", "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5148),
}


def read_idx(path: Path) -> AnyArray:
    """The uint8 array of a gzipped IDX file (two zero bytes, type, rank, big-endian sizes, data).

    Raises:
        ConfigError: not IDX, not of bytes, or of another length than its sizes say.
    """
    content = gzip.decompress(path.read_bytes())
    rank = content[3] if len(content) > 3 else 0
    start = 4 + 4 * rank
    shape = np.frombuffer(content[4:start], ">i4").tolist() if len(content) >= start else []
    if content[:3] != b"\0\0\x08" or len(shape) != rank or len(content) - start != np.prod(shape, dtype=np.int64):
        raise ConfigError(f"{path} is not an IDX file of bytes")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _read(split: str) -> Part:
    source = "test" if split == "test" else "train"
    file = FILES[f"{source}-x"]
    path, path_y = locate(file, NAME), locate(FILES[f"{source}-y"], NAME)
    x_N = cached(f"{NAME}-1-{file.sha256}", lambda: read_idx(path))
    rows = {"public": slice(0, PUBLIC), "train": slice(PUBLIC, None), "test": slice(None)}[split]
    return Part(x_N[rows, :, :, None], read_idx(path_y)[rows], scale=1 / 255)


DATASET = Dataset(
    name=NAME,
    labels=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    shape=(28, 28, 1),
    read=_read,
    note=(
        "Fashion-MNIST (Zalando, MIT licence): test the official 10,000; public the first 2,000 images of the official "
        "training set, which no learner owns; train its other 58,000."
    ),
    splits=("train", "test", "public"),
)
