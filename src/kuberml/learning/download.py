"""Download of data sets, where there is internet. Only files whose published copy is byte for byte the one that is checked.

A file is written beside its place as `.part`, resumed from there after a break, and moved to its place once its SHA-256 is
right: what is in the data folder is whole.
"""

from __future__ import annotations

import hashlib
import http.client
import importlib
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path

from kuberml.core.errors import ConfigError, RemoteError, Unreachable, nearest
from kuberml.learning.datafiles import DataFile

Progress = Callable[[DataFile, int], None]
"""Called with a file and how many of its bytes are here."""

DOWNLOADABLE = {"fashion-mnist": "fashion_mnist"}
"""Data sets with a byte-identical published copy -> their module in `learning.sources`."""

_CHUNK = 256 * 1024
_PASSING = {408, 429, 500, 502, 503, 504}  # what was received is worth keeping


def fetch(dataset: str, folder: Path | str, *, progress: Progress | None = None, timeout_s: float = 30) -> list[Path]:
    """Download the files of a data set into a data folder; files that are there and right are not fetched again.

    Args:
        dataset: a name of `DOWNLOADABLE`.
        folder: the data folder; made if it is not there. Name it by $KUBERML_DATA or `--data` afterwards.
        progress: called after each piece.
        timeout_s: without any byte, of one connection.

    Raises:
        ConfigError: this data set cannot be downloaded.
        Unreachable: no connection, or it broke; what came is kept, and the next call goes on from there.
        RemoteError: the server sent something else; nothing of it is kept.
    """
    if dataset not in DOWNLOADABLE:
        known = nearest(dataset, DOWNLOADABLE)
        raise ConfigError(f"data set {dataset!r} cannot be downloaded: no byte-identical copy is published; {known}")
    files: dict[str, DataFile] = importlib.import_module(f"kuberml.learning.sources.{DOWNLOADABLE[dataset]}").FILES
    return fetch_files(files.values(), Path(folder), progress=progress, timeout_s=timeout_s)


def fetch_files(
    files: Iterable[DataFile], folder: Path, *, progress: Progress | None = None, timeout_s: float = 30
) -> list[Path]:
    """Download files below `folder`. Arguments and errors as in `fetch`."""
    paths = []
    for file in files:
        path = folder / file.path
        if not (path.is_file() and _sha256(path) == file.sha256):
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(path.name + ".part")
            _complete(file, part, progress or (lambda file, done_bytes: None), timeout_s)
            os.replace(part, path)
        paths.append(path)
    return paths


def _complete(file: DataFile, part: Path, progress: Progress, timeout_s: float) -> None:
    """Bring `part` to its full size and check it."""
    have = part.stat().st_size if part.exists() else 0
    if have < file.size_bytes or have == 0:
        _receive(file, part, have, progress, timeout_s)
    found = _sha256(part)
    if found != file.sha256:
        part.unlink()
        raise RemoteError(f"{file.url} is not the right file: its SHA-256 is {found}, right is {file.sha256}; nothing was kept")


def _receive(file: DataFile, part: Path, have: int, progress: Progress, timeout_s: float) -> None:
    try:
        with urllib.request.urlopen(_request(file, have), timeout=timeout_s) as answer:  # noqa: S310 - `_request` checks
            resumed = have > 0 and answer.status == http.HTTPStatus.PARTIAL_CONTENT
            done = have if resumed else 0
            with part.open("ab" if resumed else "wb") as out:
                while chunk := answer.read(_CHUNK):
                    done += len(chunk)
                    if done > file.size_bytes:
                        break  # a wrong file of any length: its digest will say so
                    out.write(chunk)
                    progress(file, done)
    except urllib.error.HTTPError as error:
        if error.code in _PASSING:
            raise Unreachable(f"{file.url} answers {error.code} {error.reason}; try again later") from error
        part.unlink(missing_ok=True)
        raise RemoteError(f"{file.url} answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"{file.url}: {error or type(error).__name__}; what came is kept, try again") from error
    if done > file.size_bytes:
        part.unlink()
        raise RemoteError(f"{file.url} is longer than the {file.size_bytes} bytes of the right file; nothing was kept")
    if done < file.size_bytes:
        raise Unreachable(f"{file.url} broke off after {done} of {file.size_bytes} bytes; they are kept, try again")


def _request(file: DataFile, have: int) -> urllib.request.Request:
    if not file.url.startswith(("https://", "http://")):
        raise ConfigError(f"{file.path!r} has no address to download it from: {file.url!r}")
    headers = {"Range": f"bytes={have}-"} if have else {}
    return urllib.request.Request(file.url, headers={**headers, "Accept-Encoding": "identity"})  # noqa: S310 - checked


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
