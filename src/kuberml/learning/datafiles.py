"""Files of data sets: where they are, that they are the right ones, and their decoded arrays kept for the next time.

A file is read only after its SHA-256 was checked, once per process. What is slow to decode is kept as `.npy` in the cache
folder under the digest of its source and mapped into memory, so worker processes share one copy.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kuberml.core.errors import ConfigError

ROOT_VARIABLE = "KUBERML_DATA"
CACHE_VARIABLE = "KUBERML_CACHE"
AnyArray = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of a data set.

    Attributes:
        path: below the data folder, with `/`.
        sha256: 64 hex characters of the right content.
        url: where a byte-identical copy is published; "" if nowhere.
        size_bytes: of that copy; 0 if there is none.
    """

    path: str
    sha256: str
    url: str = ""
    size_bytes: int = 0


def data_root() -> Path | None:
    """The data folder, $KUBERML_DATA; None when it is not set."""
    text = os.environ.get(ROOT_VARIABLE, "")
    return Path(text).expanduser() if text else None


def set_data_root(folder: Path | str) -> None:
    """Use this data folder from now on, in this process and in the workers that it starts (what `--data` does).

    Raises:
        ConfigError: it is not a folder.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise ConfigError(f"data folder {str(folder)!r} does not exist")
    os.environ[ROOT_VARIABLE] = str(path.resolve())


def cache_root() -> Path:
    """Where decoded arrays are kept: $KUBERML_CACHE, else `kuberml` in the user's cache folder."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "kuberml"


def locate(file: DataFile, dataset: str) -> Path:
    """The checked file below the data folder.

    Raises:
        ConfigError: no data folder is named, the file is not in it, or its content is another; says what would help.
    """
    root = data_root()
    path = root / file.path if root else None
    if path is None or not path.is_file():
        where = f"{path} does not exist" if path else f"${ROOT_VARIABLE} is not set"
        raise ConfigError(f"data set {dataset!r} needs {file.path!r}, but {where}; {_remedy(file, dataset)}")
    found = _sha256(path, path.stat().st_mtime_ns)
    if found != file.sha256:
        raise ConfigError(f"{path} is damaged: its SHA-256 is {found}, right is {file.sha256}; {_remedy(file, dataset)}")
    return path


def cached(key: str, decode: Callable[[], AnyArray]) -> AnyArray:
    """`decode()`, kept in the cache folder under `key` and mapped read-only; decoded in memory where no file can be kept.

    Args:
        key: names content and coding, for instance "fashion-mnist-1-<sha256>"; another decoding needs another key.
        decode: gives the array; called when nothing whole is kept yet.
    """
    path = cache_root() / f"{key}.npy"
    try:
        return _mapped(path)
    except (OSError, ValueError, EOFError):
        array = decode()
    try:
        _keep(path, array)
        return _mapped(path)
    except (OSError, ValueError):  # no room, no right to write: slower next time, not wrong
        return array


def _mapped(path: Path) -> AnyArray:
    return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]


def _keep(path: Path, array: AnyArray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, array, allow_pickle=False)
        os.replace(name, path)  # whole or not at all, also when two processes decode at once
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@functools.cache
def _sha256(path: Path, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remedy(file: DataFile, dataset: str) -> str:
    folder = f"set ${ROOT_VARIABLE} (or --data) to a folder that has it"
    fetch = f"with internet run kuberml.learning.download.fetch({dataset!r}, folder) once"
    return (
        f"{folder}, or {fetch}" if file.url else f"{folder}; it is published in another form only, so it cannot be downloaded"
    )
