from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from kuberml.core.errors import ConfigError
from kuberml.learning.datafiles import DataFile, cached, data_root, locate, set_data_root


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KUBERML_DATA", str(tmp_path))
    monkeypatch.setenv("KUBERML_CACHE", str(tmp_path / "cache"))
    return tmp_path


def _file(content: bytes, url: str = "") -> DataFile:
    return DataFile("set/part.bin", hashlib.sha256(content).hexdigest(), url)


def test_the_right_file_is_found(folder: Path) -> None:
    (folder / "set").mkdir()
    (folder / "set/part.bin").write_bytes(b"right")
    assert locate(_file(b"right"), "set").read_bytes() == b"right"


def test_a_wrong_file_is_refused_and_its_repair_accepted(folder: Path) -> None:
    path = folder / "set/part.bin"
    path.parent.mkdir()
    path.write_bytes(b"wrong")
    with pytest.raises(ConfigError, match="damaged"):
        locate(_file(b"right"), "set")

    path.write_bytes(b"right")
    os.utime(path, ns=(1, 1))  # another time stamp even on a coarse clock
    assert locate(_file(b"right"), "set") == path


def test_a_missing_file_names_both_ways(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"set \$KUBERML_DATA .* or with internet run kuberml\.learning\.download\.fetch"):
        locate(_file(b"", url="https://example.org/part.bin"), "set")


def test_a_file_without_origin_does_not_promise_a_download(folder: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be downloaded"):
        locate(_file(b""), "set")


def test_without_a_data_folder_the_message_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERML_DATA", raising=False)
    assert data_root() is None
    with pytest.raises(ConfigError, match=r"\$KUBERML_DATA is not set"):
        locate(_file(b""), "set")


def test_set_data_root_reaches_child_processes_by_the_environment(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    set_data_root(tmp_path / "other")
    assert os.environ["KUBERML_DATA"] == str(tmp_path / "other")
    assert data_root() == tmp_path / "other"
    with pytest.raises(ConfigError, match="does not exist"):
        set_data_root(tmp_path / "nowhere")


def test_cached_decodes_once_and_maps(folder: Path) -> None:
    calls: list[int] = []

    def decode() -> np.ndarray:
        calls.append(1)
        return np.arange(6).reshape(2, 3)

    first, second = cached("key", decode), cached("key", decode)
    assert len(calls) == 1
    assert isinstance(second, np.memmap)
    assert np.array_equal(first, second)
    assert [path.name for path in (folder / "cache").iterdir()] == ["key.npy"]


def test_a_truncated_cache_file_is_written_again(folder: Path) -> None:
    (folder / "cache").mkdir()
    np.save(folder / "cache/key.npy", np.arange(100))
    whole = (folder / "cache/key.npy").read_bytes()
    (folder / "cache/key.npy").write_bytes(whole[:-8])

    assert np.array_equal(cached("key", lambda: np.arange(100)), np.arange(100))
    assert (folder / "cache/key.npy").read_bytes() == whole


def test_an_unusable_cache_folder_costs_time_only(folder: Path) -> None:
    (folder / "cache").write_bytes(b"a file, not a folder")
    assert cached("key", lambda: np.ones(3)).tolist() == [1, 1, 1]
