"""Real processes for tests of the commands: a hub, and whatever else, in a folder of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-W", "error", "-m", "kuberml.cli"]


def environment(**more: str) -> dict[str, str]:
    """As a stranger's: what is written to a pipe waits there until it is flushed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("KUBERML_", "PYTHONUNBUFFERED"))}
    return {**clean, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **more}


def start(folder: Path, *arguments: object, modules: str = "", **options: object) -> subprocess.Popen[str]:
    """A command that goes on. `modules`: a folder whose Python modules stand before all others; the keyring is the folder's."""
    command = [*COMMAND, *map(str, arguments)]
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, (modules, str(ROOT / "src")))), "KUBERML_HOME": str(folder / "home")}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment(**paths), text=True, stdout=pipe, stderr=pipe, **options)


def kuberml(folder: Path, *arguments: object, timeout_s: float = 60, modules: str = "") -> tuple[int, str, str]:
    """A command until its end: (exit status, stdout, stderr)."""
    running = start(folder, *arguments, modules=modules)
    try:
        out, err = running.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        running.kill()
        out, err = running.communicate()
        raise AssertionError(f"{arguments} did not end in {timeout_s} s: {out[-1000:]}{err[-2000:]}") from None
    return running.returncode, out, err


@contextmanager
def hub(folder: Path, *options: object, listen: str = "127.0.0.1:0", modules: str = "") -> Iterator[dict[str, str]]:
    """A hub's address, and what else it says of itself, until the end of the block; stopped as a service manager would."""
    folder.mkdir(exist_ok=True)
    running = start(folder, "hub", "--listen", listen, "--http", "127.0.0.1:0", "--json", *options, modules=modules)
    try:
        lines = ""
        while not lines.endswith("}\n"):
            line = running.stdout.readline()
            assert line, running.communicate()[1][-2000:]
            lines += line
        yield json.loads(lines) | {"pid": running.pid}
        if running.poll() is None:
            running.send_signal(signal.SIGTERM)
        _, err = running.communicate(timeout=20)
        assert running.returncode in (0, -signal.SIGKILL), err[-2000:]
        assert "Traceback" not in err, err[-2000:]
    finally:
        running.kill()
        running.communicate()
