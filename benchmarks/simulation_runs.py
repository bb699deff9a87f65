"""Running the contenders of `simulation.py`: environments of the peers, processes, their memory."""

from __future__ import annotations

import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent / "src"

INSTALLED = {
    "pfl": ["pfl==0.6.0", "torch=={torch}"],
    # flwr 1.42.0 asks for a newer bundle of certificates than some mirrors have. Nothing here uses certificates: any will do.
    "flower": ["--no-deps", "flwr==1.42.0"],
}


@dataclass(frozen=True)
class Ran:
    """One run of one contender. Seconds, bytes.

    Attributes:
        startup_s: from the process's start to the end of its first round.
        warm_s: median of the later rounds.
        total_s: from the process's start to its end.
        memory_bytes: the most that all its processes held at a time, shared pages shared out (PSS).
        processor_s: CPU time of all its processes, as last seen; the one figure that means something on a busy machine.
    """

    startup_s: float
    warm_s: float
    total_s: float
    memory_bytes: int
    processor_s: float
    told: dict[str, Any]


def environment(folder: Path, peer: str) -> Path:
    """The peer's Python, in an environment of its own below `folder`; made at the first call (minutes)."""
    python = folder / peer / "bin" / "python"
    done = folder / peer / ".installed"
    if done.exists():
        return python
    import torch

    version = torch.__version__.partition("+")[0]
    subprocess.run([sys.executable, "-m", "venv", str(folder / peer)], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, *(name.format(torch=version) for name in INSTALLED[peer])], check=True)
    if peer == "flower":
        subprocess.run([*install, *_needs(python, "flwr"), f"torch=={version}"], check=True)
    done.touch()
    return python


def _needs(python: Path, package: str) -> list[str]:
    """What `package[simulation]` needs, certificates of any age."""
    script = f"import importlib.metadata as m; print('\\n'.join(m.requires('{package}')))"
    found = subprocess.run([str(python), "-c", script], check=True, capture_output=True, text=True).stdout.split("\n")
    wanted = [one for one in found if one and ("extra ==" not in one or "'simulation'" in one)]
    plain = [one.replace(" and extra == 'simulation'", "") for one in wanted]
    return ["certifi" if one.startswith("certifi") else one for one in plain]


def run(command: list[str], folder: Path, *, timeout_s: float = 220.0) -> Ran:
    """Run a contender to its end. Its last line of output is what it tells.

    Raises:
        RuntimeError: it failed; the end of what it said is in the message.
    """
    env = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "RAY_TMPDIR": str(folder), "HOME": str(folder), "PYTHONPATH": str(HERE)}
    if command[0] == sys.executable:
        env["PYTHONPATH"] = os.pathsep.join([str(HERE), str(SOURCE)])
    with (folder / "out.txt").open("w+") as out, (folder / "err.txt").open("w+") as err:
        began_s = time.time()
        process = subprocess.Popen(command, stdout=out, stderr=err, env=env, cwd=folder)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the contender ends with us
        memory = _Memory(process.pid)
        try:
            code = process.wait(timeout_s)
        finally:
            process.kill()
            most_bytes, processor_s = memory.stop()
        ended_s = time.time()
        for file in (out, err):
            file.seek(0)
        said, wrong = out.read().strip().split("\n"), err.read()
    if code:
        raise RuntimeError(f"{' '.join(command)} ended with {code}: {wrong[-2000:]}")
    told = json.loads(next(line for line in reversed(said) if line.startswith("{")))
    stamps = told.pop("stamps_s")
    rounds = [after - before for before, after in itertools.pairwise(stamps)]
    return Ran(stamps[0] - began_s, statistics.median(rounds), ended_s - began_s, most_bytes, processor_s, told)


class _Memory:
    """Looks at a process and all that descend from it, four times a second: the largest sum of PSS, and their CPU time."""

    def __init__(self, process: int) -> None:
        self._process, self._most_bytes, self._end = process, 0, threading.Event()
        self._processor_s: dict[int, float] = {}
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> tuple[int, float]:
        """Stop looking: the most that was seen, bytes; and seconds."""
        self._end.set()
        self._thread.join()
        return self._most_bytes, sum(self._processor_s.values())

    def _watch(self) -> None:
        while not self._end.wait(0.25):
            family = _family(self._process)
            self._most_bytes = max(self._most_bytes, sum(_pss_bytes(one) for one in family))
            self._processor_s.update((one, max(self._processor_s.get(one, 0.0), _processor_s(one))) for one in family)


def _family(process: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], [process]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += children.get(one, [])
    return found


def _pss_bytes(process: int) -> int:
    try:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().split("\n"):
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def _processor_s(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
