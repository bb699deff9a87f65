"""The processes of a live run on this machine: started, watched, started again, ended; each by its own id."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kuberml.core.errors import ConfigError
from kuberml.core.ids import NodeId
from kuberml.scenario.live.actor import AGAIN, WRONG
from kuberml.worlds.live.names import HUB

RESTARTS = 3
"""How often a process that died is started again."""
END_S, LEAVE_S = 10.0, 10.0
"""Patience with those that were told to end, and with those that were asked to leave by a signal."""
LOOK_S = 0.02
TAIL_LINES = 6

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1") | {
    "OMP_WAIT_POLICY": "PASSIVE"  # spinning threads of several processes starve each other
}


class Death(NamedTuple):
    """A process that ended before its part: which node's, how, how often it died by now, and whether it comes again."""

    node: NodeId
    how: str
    times: int
    again: bool


class Crew:
    """See the module."""

    def __init__(self, folder: Path, *, restarts: int = RESTARTS) -> None:
        """`folder`: of the run; what processes say goes to `logs/NODE.log` in it."""
        self.folder, self._restarts = folder, restarts
        self._running: dict[NodeId, subprocess.Popen[bytes]] = {}
        self._deaths: dict[NodeId, int] = {}
        (folder / "logs").mkdir(parents=True, exist_ok=True)

    def start(self, nodes: Sequence[NodeId]) -> None:
        """Start each node's process. Raises ConfigError: this machine lets us start no more."""
        for node in nodes:
            part = ["host", str(self.folder)] if node == HUB else ["actor", str(self.folder), node, "--line"]
            command = [sys.executable, "-m", f"kuberml.scenario.live.{part[0]}", *part[1:]]
            try:
                with self.log(node).open("ab") as log:
                    self._running[node] = subprocess.Popen(  # noqa: S603 - our own module, no shell
                        command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
                        env={**os.environ, **ONE_THREAD},
                    )  # fmt: skip
            except OSError as error:
                raise ConfigError(f"cannot start a process for {node}: {error}") from error

    def pid(self, node: NodeId) -> int | None:
        """Of a node's process; None: it does not run."""
        process = self._running.get(node)
        return process.pid if process is not None and process.poll() is None else None

    def log(self, node: NodeId) -> Path:
        """What a node's process said."""
        return self.folder / "logs" / f"{node}.log"

    def check(self) -> list[Death]:
        """Who died since the last look. Those that may are started again.

        Raises:
            ConfigError: a process says that a setting is wrong.
        """
        found = []
        for node, process in list(self._running.items()):
            code = process.poll()
            if code is None:
                continue
            self._bury(node)
            if code == WRONG:
                raise ConfigError(self.last_words(node))
            found.append(self.died(node, code))
        return found

    def died(self, node: NodeId, code: int | None, how: str = "") -> Death:
        """Count a death and start the node again, if it may. `code`: its exit status, if it is known; else `how` it ended."""
        times = self._deaths[node] = self._deaths.get(node, 0) + (code != AGAIN)
        again = times <= self._restarts
        if again:
            self.start([node])
        return Death(node, how if code is None else how_ended(code), times, again)

    def last_words(self, node: NodeId) -> str:
        """The end of a node's log."""
        try:
            lines = self.log(node).read_text("utf-8", "replace").strip().splitlines()
        except OSError:
            lines = []
        return "\n".join(lines[-TAIL_LINES:]) or f"{node} said nothing"

    async def wait(self, nodes: Sequence[NodeId], timeout_s: float = END_S) -> None:
        """Until the processes of these have ended; those that have not by then are asked to leave, and then killed."""
        for patience_s, number in ((timeout_s, signal.SIGTERM), (LEAVE_S, signal.SIGKILL), (LEAVE_S, signal.SIGKILL)):
            until_s = time.monotonic() + patience_s
            while left := [node for node in nodes if self.pid(node) is not None]:
                if time.monotonic() > until_s:
                    break
                await asyncio.sleep(LOOK_S)
            for node in left:
                self._running[node].send_signal(number)
        for node in nodes:
            self._bury(node)

    async def stop(self) -> None:
        """Ask everybody to leave, the hub last; whoever does not is killed."""
        await self.wait([node for node in self._running if node != HUB], 0.0)
        await self.wait([node for node in self._running if node == HUB], 0.0)

    def kill(self) -> None:
        """End everybody at once."""
        for node, process in list(self._running.items()):
            process.kill()
            self._bury(node)

    def _bury(self, node: NodeId) -> None:
        process = self._running.pop(node, None)
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            process.wait()


def how_ended(code: int) -> str:
    """An exit status in words."""
    if code == AGAIN:
        return "left because its time was up"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return "ended without being told to" if code == 0 else f"failed with status {code}"
