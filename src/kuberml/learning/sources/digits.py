"""Handwritten digits 8x8, shipped inside the package (see `learning/data/digits.md` for source, licence and split)."""

from __future__ import annotations

import io
from importlib import resources

import numpy as np

from kuberml.learning.datasets import Dataset, Part

_PARTS = ("train", "test", "public")


def _read(split: str) -> Part:
    content = resources.files("kuberml.learning").joinpath("data/digits.npz").read_bytes()
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        mine = file["part"] == _PARTS.index(split)
        return Part(file["images"][mine][..., None], file["labels"][mine], scale=1 / 16)


DATASET = Dataset(
    name="digits",
    labels=tuple("0123456789"),
    shape=(8, 8, 1),
    read=_read,
    note=(
        "Optical Recognition of Handwritten Digits (Alpaydin, Kaynak; UCI, CC BY 4.0), its 1,797 test images: train 1,097, "
        "test 50 of each digit, public 20 of each digit that no learner owns."
    ),
    splits=_PARTS,
)
