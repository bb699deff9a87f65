"""The small measured tables that ship with kuberml. Sources, licences and how each was made: README.md beside this file."""

from __future__ import annotations

import csv
import functools
import tomllib
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt


@functools.cache
def numbers(name: str) -> dict[str, tuple[float, ...]]:
    """The columns of the CSV table `name`, by heading. Lines that start with `#` are comments."""
    text = (files(__name__) / f"{name}.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    return {key: tuple(float(row[key]) for row in rows) for key in rows[0]}


@functools.cache
def settings(name: str) -> dict[str, Any]:
    """The TOML table `name`. Shared: read it, do not change it."""
    return tomllib.loads((files(__name__) / f"{name}.toml").read_text(encoding="utf-8"))


@functools.cache
def matrix(name: str) -> npt.NDArray[np.int16]:
    """The one array of the NPZ table `name`, read-only."""
    with (files(__name__) / f"{name}.npz").open("rb") as file, np.load(file, allow_pickle=False) as archive:
        array: npt.NDArray[np.int16] = archive["table"]
    array.flags.writeable = False
    return array
