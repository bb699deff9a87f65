"""A key file when the disk is full, or its maker killed: a whole key or none, so that the next start needs no hand."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

from kuberml.worlds.member.keyfile import KEY_BYTES, keys_in

DRAW = "import sys; from pathlib import Path; from kuberml.worlds.member.keyfile import keys_in; keys_in(Path(sys.argv[1]))"


def drawn(path: Path, *, before: str = "", room_bytes: int | None = None) -> int:
    """Draw a key in another process; its exit status."""

    def limited() -> None:
        if room_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, room_bytes))

    command = [sys.executable, "-c", before + DRAW, str(path)]
    return subprocess.run(command, preexec_fn=limited, check=False, capture_output=True, timeout=60).returncode


def test_a_full_disk_leaves_no_half_key_behind(tmp_path: Path) -> None:
    path = tmp_path / "hub.key"
    assert drawn(path, room_bytes=KEY_BYTES // 2) == 1
    assert list(tmp_path.iterdir()) == []
    keys_in(path)
    assert len(path.read_bytes()) == KEY_BYTES


def test_who_is_killed_while_drawing_a_key_can_start_again(tmp_path: Path) -> None:
    path = tmp_path / "hub.key"
    kill = "import os, signal\nos.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)\n"
    assert drawn(path, before=kill) == -signal.SIGKILL
    assert not path.exists()
    assert drawn(path) == 0
    assert keys_in(path).public == keys_in(path).public
    assert os.stat(path).st_mode & 0o777 == 0o600
