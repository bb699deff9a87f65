"""Data sets of the data folder: their readers on made-up files, and the real files where this machine has them."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import numpy as np
import pytest

from kuberml.core.errors import ConfigError
from kuberml.learning.datasets import DATASETS
from kuberml.learning.sources import cifar10, fashion_mnist, heart_disease, omniglot


def test_idx_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3]) + bytes(range(6))))
    assert fashion_mnist.read_idx(path).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    "content", [b"", b"\0\0\x08", bytes([0, 0, 8, 1, 0, 0, 0, 3, 1, 2]), bytes([0, 0, 9, 1, 0, 0, 0, 1, 1])]
)
def test_what_is_not_idx_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(ConfigError, match="not an IDX file"):
        fashion_mnist.read_idx(path)


def test_planes_of_differences(tmp_path: Path) -> None:
    images = np.random.Generator(np.random.Philox(0)).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    red, green, blue = (images[..., channel] for channel in range(3))
    planes = np.stack([red - green, green, blue - green])
    for axis in (3, 2):  # the reader sums down, then across
        planes = np.diff(planes, axis=axis, prepend=np.zeros_like(planes[:, :, :1] if axis == 2 else planes[:, :, :, :1]))
    path = tmp_path / "x.xz"
    path.write_bytes(lzma.compress(planes.astype(np.uint8).tobytes()))

    assert np.array_equal(cifar10.read_planes(path), images)
    path.write_bytes(lzma.compress(planes.astype(np.uint8).tobytes()[:-1]))
    with pytest.raises(ConfigError, match="whole images"):
        cifar10.read_planes(path)


def test_patients_with_nothing_known_are_the_public_centre() -> None:
    row = np.full((1, 14), np.nan)
    row[0, 3] = row[0, 4] = 0  # a blood pressure and a cholesterol of 0 are missing too
    assert not heart_disease.features(row).any()


def test_a_patient_by_hand() -> None:
    row = np.array([[64, 1, 4, 150, 290, 0, 2, 115, 1, 2.0, 2, 1, 7, 3]])
    numbers = [1, 1, 1, 1, 0, -1, 1, 1, 1]
    one_hot = [0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 1]
    assert heart_disease.features(row).tolist() == [numbers + one_hot]


def test_omniglot_names_its_characters_and_writers() -> None:
    dataset = omniglot.DATASET
    assert len(dataset.labels) == len(set(dataset.labels)) == 1623
    assert len(dataset.groups) == len(set(dataset.groups)) == 1000
    assert dataset.labels[0] == "Alphabet_of_the_Magi/character01"


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10", "omniglot", "heart-disease"])
def test_without_a_data_folder_the_message_helps(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBERML_DATA", str(tmp_path))
    source = {"fashion-mnist": fashion_mnist, "cifar10": cifar10, "omniglot": omniglot, "heart-disease": heart_disease}[name]
    with pytest.raises(ConfigError, match=r"set \$KUBERML_DATA \(or --data\)"):
        source._read("train")


def test_the_real_fashion_mnist(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERML_CACHE", str(tmp_path))
    fashion = DATASETS.get("fashion-mnist")
    assert {split: fashion.size(split) for split in fashion.splits} == {"train": 58_000, "test": 10_000, "public": 2_000}
    assert np.bincount(fashion.part("test").y_N).tolist() == [1000] * 10
    whole = np.concatenate([fashion.part("public").x_N, fashion.part("train").x_N])
    assert whole.mean() / 255 == pytest.approx(0.2860, abs=5e-5)
    assert len(list(tmp_path.iterdir())) == 2


def test_the_real_hospitals(real_data: Path) -> None:
    heart = DATASETS.get("heart-disease")
    train, test = heart.split("train"), heart.split("test")
    assert (len(train), len(test)) == (617, 303)
    assert train.x_N.shape == (617, 22)
    assert np.isfinite(train.x_N).all()
    assert np.bincount(heart.owners("train")).tolist() == [203, 197, 83, 134]
    assert np.bincount(heart.owners("test")).tolist() == [100, 97, 40, 66]
    assert train.y_N.mean() == pytest.approx(test.y_N.mean(), abs=0.01)


def test_the_real_omniglot(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERML_CACHE", str(tmp_path))
    characters = DATASETS.get("omniglot")
    known, unknown = (characters.part(split) for split in ("train", "test"))
    assert (known.x_N.shape, unknown.x_N.shape) == ((19_280, 28, 28, 1), (13_180, 28, 28, 1))
    assert not set(known.y_N) & set(unknown.y_N)
    assert known.x_N.mean() < 60  # ink is 1 and rare
    with np.load(real_data / "omniglot/omniglot28.npz") as file:
        assert tuple(file["character_names"]) == characters.labels
    writer = characters.groups[int(characters.owners("test")[0])]
    assert writer.partition("/")[0] == characters.labels[int(unknown.y_N[0])].partition("/")[0]


@pytest.mark.slow
def test_the_real_cifar10(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERML_CACHE", str(tmp_path))
    cifar = DATASETS.get("cifar10")
    parts = [cifar.part(split) for split in ("train", "test")]
    assert [len(part.y_N) for part in parts] == [40_000, 10_000]
    mean = np.concatenate([part.x_N for part in parts]).mean(axis=(0, 1, 2)) / 255
    assert mean == pytest.approx([0.49139968, 0.48215841, 0.44653091], abs=1e-8)  # the published means of the 50,000
    assert cifar.part("public").x_N.shape == (1000, 32, 32, 3)
