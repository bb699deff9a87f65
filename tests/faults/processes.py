"""An actor's process and its supervisor: started again whenever it is gone, with the same vault, as an init system does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

RESTART_S = 0.1
"""systemd's RestartSec."""
STOP_S = 10.0


class Actor:
    """One name in the town, and whoever plays it now."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environment: dict[str, str], note: Callable[[str], None]
    ) -> None:
        self.name, self._command, self._log, self._environment, self._note = name, command, log, environment, note
        self.process: asyncio.subprocess.Process | None = None
        self.may_fail = False
        """Whether it may end by itself now: it was started on a full disk."""
        self.crashes: list[str] = []
        self.starts = 0
        self._expected: set[int] = set()
        self._keeping: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Of the process, while it is there."""
        return self.process.pid if self.process is not None and self.process.returncode is None else None

    def start(self) -> None:
        """Have it run from now on."""
        self._keeping = asyncio.ensure_future(self._keep())

    async def stop(self) -> None:
        """End it for good."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        if self.process is not None and self.process.returncode is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self.process.wait(), STOP_S)
            except TimeoutError:
                self.crashes.append(f"{self.name} does not end on SIGTERM within {STOP_S:g} s")
                self.signal(signal.SIGUSR1)
                await asyncio.sleep(0.5)
                self.signal(signal.SIGKILL)
                await self.process.wait()

    def signal(self, number: int) -> None:
        """Send a signal, if it is there; one that ends it is expected to."""
        if self.pid is not None:
            if number in (signal.SIGKILL, signal.SIGTERM):
                self._expected.add(self.pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def _keep(self) -> None:
        while True:
            self.starts += 1
            began_s = time.monotonic()
            with self._log.open("ab") as log:
                self.process = await asyncio.create_subprocess_exec(
                    *self._command, stdout=log, stderr=log, env=os.environ | self._environment
                )
            self._note(f"{self.name} started as {self.process.pid}")
            code = await self.process.wait()
            self._note(f"{self.name} ended with {code}")
            if self.process.pid not in self._expected and not self.may_fail:
                tail = self._log.read_text(errors="replace")[-2000:]
                self.crashes.append(
                    f"{self.name} ended by itself with {code} after {time.monotonic() - began_s:.1f} s:\n{tail}"
                )
            await asyncio.sleep(RESTART_S)

    def resident_bytes(self) -> int:
        """Memory that the process has now; 0: it is not there."""
        with contextlib.suppress(OSError, IndexError):
            if self.pid is not None:
                return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return 0

    def descriptors(self) -> int:
        """Files and sockets that the process has open."""
        with contextlib.suppress(OSError):
            if self.pid is not None:
                return len(os.listdir(f"/proc/{self.pid}/fd"))
        return 0
