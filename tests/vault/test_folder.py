import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kuberml.core.errors import ConfigError, InternalError, RemoteError
from kuberml.core.ids import Digest, digest_of
from kuberml.core.rng import rng
from kuberml.knowledge.card import encode_card
from kuberml.vault import file_part
from kuberml.vault.folder import FolderStore
from tests.contracts.store import StoreContract, signed_card


class TestFolderStore(StoreContract):
    def make(self, tmp_path: Path) -> FolderStore:
        return FolderStore(tmp_path / "vault")


def keep(store: FolderStore, *blobs: bytes, **fields: object) -> Digest:
    signed = signed_card(*blobs, **fields)
    for blob in blobs:
        store.put(blob)
    store.put_card(signed.digest, encode_card(signed))
    return signed.digest


def test_everything_is_there_again_after_closing(tmp_path: Path) -> None:
    with FolderStore(tmp_path) as store:
        digest = keep(store, b"one", b"two")
        store.remember({"round": b"7"})
        store.close()
    with FolderStore(tmp_path) as store:
        assert list(store.cards()) == [digest]
        assert list(store.blobs()) == sorted([digest_of(b"one"), digest_of(b"two")])
        assert store.memory() == {"round": b"7"}


def test_other_bytes_on_the_disk_are_noticed_and_dropped(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    digest = store.put(b"the right bytes")
    (tmp_path / "blobs" / digest[:2] / digest).write_bytes(b"the wrong bytes")
    with pytest.raises(InternalError, match="other bytes"):
        store.get(digest)
    assert store.size_bytes(digest) is None
    store.put(b"the right bytes")
    assert store.get(digest) == b"the right bytes"


def test_what_the_system_gives_in_several_calls_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux gives 2 GiB less a page in one call; here it gives 1,000 bytes."""
    whole, plenty = os.pread, rng(1, "folder").bytes(4500)
    monkeypatch.setattr(os, "pread", lambda descriptor, count, start: whole(descriptor, min(count, 1000), start))
    with FolderStore(tmp_path) as store:
        assert store.read(store.put(plenty), 700, 3900) == plenty[700:3900]


@pytest.mark.parametrize("name", ["../../../etc/passwd", "AB" * 32, "", "ab"])
def test_a_name_that_is_no_digest_never_reaches_the_disk(tmp_path: Path, name: str) -> None:
    with pytest.raises(RemoteError, match="not a digest"):
        FolderStore(tmp_path).get(Digest(name))


def test_a_card_is_kept_only_under_its_own_digest(tmp_path: Path) -> None:
    store, signed = FolderStore(tmp_path), signed_card()
    with pytest.raises(InternalError, match="was to be kept as"):
        store.put_card(digest_of(b"another"), encode_card(signed))
    with pytest.raises(RemoteError, match="canonical"):
        store.put_card(signed.digest, b"no card")
    assert list(store.cards()) == []


def test_two_stores_on_one_folder_see_each_other(tmp_path: Path) -> None:
    one, two = FolderStore(tmp_path), FolderStore(tmp_path)
    digest = keep(one, b"blob")
    two.remember({"a": b"1"})
    assert (two.get(digest_of(b"blob")), list(two.cards()), one.memory()) == (b"blob", [digest], {"a": b"1"})
    two.delete(digest_of(b"blob"))
    assert one.size_bytes(digest_of(b"blob")) is None


@pytest.mark.parametrize("reason", ["a file", "not a database", "another program's database", "a later version"])
def test_a_path_that_is_no_vault_is_refused(tmp_path: Path, reason: str) -> None:
    import sqlite3

    path, index = tmp_path / "vault", tmp_path / "vault" / "index.sqlite"
    if reason == "a file":
        path.write_bytes(b"")
    else:
        path.mkdir()
        index.write_bytes(b"no database at all" * 100 if reason == "not a database" else b"")
    if reason == "another program's database":
        sqlite3.connect(index).execute("CREATE TABLE theirs (x)").connection.close()
    if reason == "a later version":
        FolderStore(path).close()
        sqlite3.connect(index).execute("PRAGMA user_version=99").connection.close()
    with pytest.raises(ConfigError, match="vault"):
        FolderStore(path)


# Sweeping


def test_a_sweep_takes_what_no_card_refers_to(tmp_path: Path) -> None:
    with FolderStore(tmp_path) as store:
        old, new = keep(store, b"shared", b"old one", version=1), keep(store, b"shared", b"new", version=2)
        store.put(b"of memory")
        store.delete_card(old)
        assert list(store.cards()) == [new]
    with FolderStore(tmp_path) as store:
        assert store.sweep(keep=[digest_of(b"of memory")]) == len(b"old one")
        assert set(store.blobs()) == {digest_of(blob) for blob in (b"shared", b"new", b"of memory")}
        assert store.sweep() == len(b"of memory")
        assert store.sweep() == 0


def test_a_sweep_leaves_what_a_living_session_is_about_to_refer_to(tmp_path: Path) -> None:
    writer, sweeper = FolderStore(tmp_path), FolderStore(tmp_path)
    digest = writer.put(b"its card comes in a moment")
    assert sweeper.sweep() == writer.sweep() == 0
    writer.close()
    assert sweeper.sweep() > 0
    assert sweeper.size_bytes(digest) is None


# Full and broken disks


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def files_below(path: Path) -> set[str]:
    return {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file() and "index" not in file.name}


def test_a_blob_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    digest = keep(store, b"before")
    before = files_below(tmp_path)
    with largest_file(1 << 20), pytest.raises(OSError, match="large"):
        store.put(b"x" * (2 << 20))
    assert files_below(tmp_path) == before
    assert list(store.cards()) == [digest]
    assert store.get(store.put(b"x" * (2 << 20))) == b"x" * (2 << 20)


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_disk_that_fails_at_any_step_leaves_nothing(tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderStore(tmp_path)
    before = files_below(tmp_path)

    def fail(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, step, fail)
        with pytest.raises(OSError, match="No space"):
            store.put(b"blob")
    assert files_below(tmp_path) == before
    assert store.get(store.put(b"blob")) == b"blob"


def test_memory_that_does_not_fit_is_not_half_written(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.remember({"a": b"1", "b": b"1"})
    with largest_file(256 << 10), pytest.raises(OSError, match=r"disk|full"):
        store.remember({"a": b"2", "b": b"x" * (1 << 20)})
    assert store.memory() == {"a": b"1", "b": b"1"}
    store.remember({"a": b"3"})
    assert store.memory() == {"a": b"3", "b": b"1"}


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    import subprocess

    mount = tmp_path / "tiny"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(mount)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_a_full_disk_keeps_what_was_there_and_works_again_with_room(tiny_disk: Path) -> None:
    with FolderStore(tiny_disk / "vault") as store:
        kept: list[Digest] = []
        with pytest.raises(OSError, match=r"space|full"):
            kept.extend(store.put(bytes([number]) * 200_000) for number in range(100))
        assert len(kept) > 3
        with pytest.raises(OSError, match="full"):
            store.remember({"state": b"x" * 3_000_000})
        assert [len(store.get(digest)) for digest in kept] == [200_000] * len(kept)
        assert (list(store.blobs()), store.memory()) == (sorted(kept), {})
        for digest in kept[2:]:
            store.delete(digest)
        store.remember({"state": b"there is room again"})
        assert store.get(store.put(b"new")) == b"new"


def test_a_large_blob_does_not_stay_in_the_page_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_part, "CACHED_BYTES", 1 << 20)
    monkeypatch.setattr(file_part, "FLUSH_BYTES", 1 << 18)
    dropped = list[tuple[int, int]]()
    monkeypatch.setattr(os, "posix_fadvise", lambda descriptor, start, size, advice: dropped.append((start, start + size)))
    blob, step = rng(0, "large").bytes(4 << 20), 1 << 17
    starts = [*range(1 << 21, 1 << 22, step), *range(0, 1 << 21, step)]  # the second half first: it is hashed late
    with FolderStore(tmp_path) as store:
        part = store.part(digest_of(blob), len(blob))
        for start in starts:
            part.write(start, blob[start : start + step])
        again = [span for place, span in enumerate(dropped) if span in dropped[:place]]
        assert again  # once to begin with the disk, once to let go
        assert max(dropped.count(span) for span in dropped) == 2
        assert all(stop <= 1 << 21 for _, stop in again)  # nothing that the hash still has to read
        part.finish()
        assert store.get(digest_of(blob)) == blob
