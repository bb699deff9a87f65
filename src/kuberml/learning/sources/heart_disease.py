"""Heart disease (Detrano et al., American Journal of Cardiology 1989; UCI, CC BY 4.0): 920 patients of four real hospitals.

Thirteen attributes become 22 numbers: nine standardised ones, then one-hot codes of four categories. Centres and spreads are
round public constants (`CENTRES`, `SPREADS`), chosen once from what the literature calls usual for adults sent to angiography
and the same for everybody: no learner's data enters them. A missing number becomes its centre (0 after standardising), a
missing category all zeros; a cholesterol or resting blood pressure of 0 is missing too (whole hospitals wrote it so).
"""

from __future__ import annotations

import io

import numpy as np

from kuberml.learning.datafiles import AnyArray, DataFile, locate
from kuberml.learning.datasets import Dataset, Part

NAME = "heart-disease"
HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")
_SHA256 = {
    "cleveland": "7849bebbf4e963b402b4fc7b44df2c2682262df969f36d2c536cf6391268dec0",
    "hungarian": "d1ad108f785768cd3d7e82dc522e6f5a61eea93cccfb3a46ee8076f73fc3d796",
    "switzerland": "834a405ccf5b66ab4056bb77794adc8df0b7125186454c0a1d002d33c6c3b314",
    "va": "e7c93d8d0d2acdadfa4c5e8de768e2191e7f618b952e29623f1f0d5949ff6b8f",
}
NUMBERS = {"age": 0, "sex": 1, "trestbps": 3, "chol": 4, "fbs": 5, "thalach": 7, "exang": 8, "oldpeak": 9, "ca": 11}
CENTRES = {"age": 54, "sex": 0.5, "trestbps": 130, "chol": 240, "fbs": 0, "thalach": 140, "exang": 0.5, "oldpeak": 1, "ca": 0}
SPREADS = {"age": 10, "sex": 0.5, "trestbps": 20, "chol": 50, "fbs": 0.5, "thalach": 25, "exang": 0.5, "oldpeak": 1, "ca": 1}
CATEGORIES = {"cp": (2, (1, 2, 3, 4)), "restecg": (6, (0, 1, 2)), "slope": (10, (1, 2, 3)), "thal": (12, (3, 6, 7))}
_NEVER_ZERO = ("trestbps", "chol")
_DIAGNOSIS = 13
_TEST_EVERY = 3


def features(rows_N: AnyArray) -> AnyArray:
    """float32 [N, 22] of attribute rows [N, 13 or more], NaN where missing."""
    columns = []
    for name, column in NUMBERS.items():
        raw_N = rows_N[:, column]
        missing_N = np.isnan(raw_N) | ((raw_N == 0) if name in _NEVER_ZERO else False)
        columns.append(np.where(missing_N, 0.0, (raw_N - CENTRES[name]) / SPREADS[name]))
    for column, categories in CATEGORIES.values():
        columns += [rows_N[:, column] == category for category in categories]  # NaN equals nothing: all zeros
    return np.stack(columns, axis=1).astype(np.float32)


def _hospital(name: str) -> AnyArray:
    text = locate(DataFile(f"heart_disease/processed.{name}.data", _SHA256[name]), NAME).read_text("ascii")
    return np.genfromtxt(io.StringIO(text), delimiter=",", missing_values="?")


def _test_rows(y_N: AnyArray) -> AnyArray:
    """Every third patient of each label, in the file's order, is for testing: bool [N]."""
    test_N = np.zeros(len(y_N), bool)
    for label in (0, 1):
        test_N[np.flatnonzero(y_N == label)[_TEST_EVERY - 1 :: _TEST_EVERY]] = True
    return test_N


def _read(split: str) -> Part:
    x, y, group = [], [], []
    for number, name in enumerate(HOSPITALS):
        rows_N = _hospital(name)
        y_N = (rows_N[:, _DIAGNOSIS] > 0).astype(np.int64)
        mine_N = _test_rows(y_N) == (split == "test")
        x.append(features(rows_N[mine_N]))
        y.append(y_N[mine_N])
        group.append(np.full(int(mine_N.sum()), number))
    return Part(np.concatenate(x), np.concatenate(y), group_N=np.concatenate(group))


DATASET = Dataset(
    name=NAME,
    labels=("healthy", "ill"),
    shape=(22,),
    read=_read,
    note=(
        "Heart Disease (Janosi, Steinbrunn, Pfisterer, Detrano; UCI, CC BY 4.0): 920 patients of four hospitals; label ill = "
        "diagnosis 1-4; test = every third patient of each hospital and label. Attributes standardised with public constants."
    ),
    groups=HOSPITALS,
)
