"""Secrets in files: their owner's only, never written over, whole or not there."""

import os
import threading
from pathlib import Path

import pytest

from kuberml.core.errors import ConfigError
from kuberml.worlds.live.trust.secret_files import keys_from, new_keys, read_secret, write_secret


def test_keys_come_back_from_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    keys = new_keys(tmp_path / "me.key")
    assert keys_from(tmp_path / "me.key").public == keys.public
    assert (tmp_path / "me.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["me.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601, 0o777])
def test_a_secret_that_others_can_touch_is_not_used(tmp_path: Path, mode: int) -> None:
    new_keys(tmp_path / "me.key")
    (tmp_path / "me.key").chmod(mode)
    with pytest.raises(ConfigError, match=f"others can read .* \\(mode {mode:o}\\); chmod 600"):
        keys_from(tmp_path / "me.key")


def test_a_secret_is_never_written_over(tmp_path: Path) -> None:
    keys = new_keys(tmp_path / "me.key")
    with pytest.raises(ConfigError, match="is there already"):
        write_secret(tmp_path / "me.key", bytes(32))
    assert keys_from(tmp_path / "me.key").public == keys.public
    assert len(list(tmp_path.iterdir())) == 1


def test_of_many_that_make_one_file_at_once_one_wins(tmp_path: Path) -> None:
    made, refused = [], []

    def make() -> None:
        try:
            made.append(new_keys(tmp_path / "me.key").public)
        except ConfigError as error:
            refused.append(error)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(refused)) == (1, 7)
    assert keys_from(tmp_path / "me.key").public == made[0]


def test_what_is_no_secret_key_is_refused(tmp_path: Path) -> None:
    for name, content in (("short", b"x" * 31), ("long", b"x" * 33), ("huge", b"x" * 70_000)):
        write_secret(tmp_path / name, content)
        with pytest.raises(ConfigError, match="is not a secret key") as error:
            keys_from(tmp_path / name)
        assert "xxx" not in str(error.value)
    with pytest.raises(ConfigError, match="cannot read the secret key"):
        read_secret(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="not a plain file"):
        read_secret(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="cannot read the secret key"):
        read_secret(tmp_path)
    with pytest.raises(ConfigError, match="cannot make the secret file"):
        write_secret(tmp_path / "no" / "folder", b"")
