from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kuberml.core.errors import ConfigError, RemoteError, Unreachable
from kuberml.learning import download
from kuberml.learning.datafiles import DataFile
from kuberml.learning.sources import fashion_mnist

CONTENT = bytes(range(256)) * 4000


class Origin:
    """A server on loopback; `mode` says how it behaves, `ranges` what it was asked for."""

    def __init__(self) -> None:
        self.mode, self.ranges = "whole", []
        origin = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                origin.ranges.append(asked)
                origin.answer(self, int(asked[6:-1]) if asked and origin.mode != "no ranges" else 0)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def answer(self, handler: BaseHTTPRequestHandler, start: int) -> None:
        if self.mode in ("gone", "busy"):
            handler.send_error(404 if self.mode == "gone" else 503)
            return
        body = {"wrong": CONTENT[::-1], "long": CONTENT + b"more", "short file": CONTENT[:1000]}.get(self.mode, CONTENT)[start:]
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[:300_000] if self.mode == "truncated" else body)

    @property
    def file(self) -> DataFile:
        url = f"http://127.0.0.1:{self.server.server_port}/set.bin"
        return DataFile("set/set.bin", hashlib.sha256(CONTENT).hexdigest(), url, len(CONTENT))

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def origin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Origin]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Origin()
    yield server
    server.close()


def _fetch(origin: Origin, folder: Path, **options: Any) -> Path:
    return download.fetch_files([origin.file], folder, timeout_s=5, **options)[0]


def _left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_file_arrives_and_is_not_fetched_twice(origin: Origin, tmp_path: Path) -> None:
    seen: list[int] = []
    path = _fetch(origin, tmp_path / "new", progress=lambda file, done_bytes: seen.append(done_bytes))

    assert path.read_bytes() == CONTENT
    assert seen == sorted(seen)
    assert seen[-1] == len(CONTENT)
    assert _fetch(origin, tmp_path / "new") == path
    assert origin.ranges == [None]
    assert _left(tmp_path) == ["set.bin"]


def test_a_broken_answer_is_resumed_where_it_broke(origin: Origin, tmp_path: Path) -> None:
    origin.mode = "truncated"
    with pytest.raises(Unreachable, match="kept"):
        _fetch(origin, tmp_path)
    assert _left(tmp_path) == ["set.bin.part"]

    origin.mode = "whole"
    assert _fetch(origin, tmp_path).read_bytes() == CONTENT
    assert origin.ranges == [None, "bytes=300000-"]


def test_a_server_without_ranges_starts_over(origin: Origin, tmp_path: Path) -> None:
    origin.mode = "truncated"
    with pytest.raises(Unreachable):
        _fetch(origin, tmp_path)
    origin.mode = "no ranges"
    assert _fetch(origin, tmp_path).read_bytes() == CONTENT


def test_a_busy_server_costs_nothing_that_came(origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/set.bin.part").write_bytes(CONTENT[:500])
    origin.mode = "busy"
    with pytest.raises(Unreachable, match="503"):
        _fetch(origin, tmp_path)
    origin.mode = "whole"
    assert _fetch(origin, tmp_path).read_bytes() == CONTENT
    assert origin.ranges == ["bytes=500-"] * 2


@pytest.mark.parametrize(("mode", "message"), [("wrong", "SHA-256"), ("long", "longer"), ("gone", "404")])
def test_something_else_is_refused_and_leaves_nothing(origin: Origin, tmp_path: Path, mode: str, message: str) -> None:
    origin.mode = mode
    with pytest.raises(RemoteError, match=message):
        _fetch(origin, tmp_path)
    assert _left(tmp_path) == []


def test_a_shorter_file_is_not_taken_for_a_whole_one(origin: Origin, tmp_path: Path) -> None:
    origin.mode = "short file"
    with pytest.raises(Unreachable, match="1000 of 1024000"):
        _fetch(origin, tmp_path)
    assert _left(tmp_path) == ["set.bin.part"]


def test_a_damaged_file_is_replaced(origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/set.bin").write_bytes(b"damaged")
    assert _fetch(origin, tmp_path).read_bytes() == CONTENT


def test_a_spoilt_part_is_dropped_and_the_next_call_is_whole(origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/set.bin.part").write_bytes(b"something else")
    with pytest.raises(RemoteError, match="SHA-256"):
        _fetch(origin, tmp_path)
    assert _fetch(origin, tmp_path).read_bytes() == CONTENT


def test_nobody_there_is_unreachable(tmp_path: Path) -> None:
    origin = Origin()
    origin.close()
    with pytest.raises(Unreachable, match="try again"):
        _fetch(origin, tmp_path)


def test_only_published_copies_can_be_downloaded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="known: fashion-mnist"):
        download.fetch("cifar10", tmp_path)
    with pytest.raises(ConfigError, match="no address"):
        download.fetch_files([DataFile("x", "0" * 64)], tmp_path)


def test_fetch_brings_all_files_of_a_data_set(origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = origin.file
    both = {name: DataFile(f"fashion_mnist/{name}", file.sha256, file.url, file.size_bytes) for name in ("a", "b")}
    monkeypatch.setattr(fashion_mnist, "FILES", both)
    assert [path.relative_to(tmp_path).as_posix() for path in download.fetch("fashion-mnist", tmp_path)] == [
        "fashion_mnist/a",
        "fashion_mnist/b",
    ]
