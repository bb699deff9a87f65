"""The processes of live runs in lockstep: a router, a conductor, and one process for every node, on this machine.

Processes are started when a play needs them and stay for the next one: starting costs more than a small play.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType

import msgspec

from kuberml.core.errors import Unreachable
from kuberml.core.ids import NodeId
from kuberml.worlds.live.lockstep.conductor import Conductor, Ended
from kuberml.worlds.live.lockstep.line import STALL_S, Lines
from kuberml.worlds.live.lockstep.member import Hello
from kuberml.worlds.live.names import Endpoint, free_port
from kuberml.worlds.live.session import client, open_session, router
from kuberml.worlds.simulated.lockstep_loop import STEP_NS
from kuberml.worlds.simulated.processes import worker_environment

GRACE_S = 30.0
"""How long a process may take to leave before it is killed."""


class Troupe:
    """See the module. A context manager."""

    def __init__(self, module: str, logs: Path, *, step_ns: int = STEP_NS, stall_s: float = STALL_S) -> None:
        """Start a router and connect to it; processes start with the first play.

        Args:
            module: what a node process runs (`python -m module`); it calls `member.serve`.
            logs: a folder for what the processes write to standard error, one file each.
            step_ns: see `LockstepLoop`.
            stall_s: see `line.STALL_S`.

        Raises:
            Unreachable: the router cannot listen on loopback.
        """
        self.processes: dict[NodeId, subprocess.Popen[bytes]] = {}
        self._module, self._logs, self._run = module, logs, secrets.token_hex(16)
        logs.mkdir(parents=True, exist_ok=True)
        self._endpoint = Endpoint("127.0.0.1", free_port("127.0.0.1"))
        self._router = open_session(router([self._endpoint]))
        try:
            self._session = open_session(client([self._endpoint]))
        except Unreachable:
            self._router.close()  # type: ignore[no-untyped-call]
            raise
        lines = Lines(self._session, self._run, self.check, stall_s=stall_s)
        self._conductor = Conductor(lines.ask, step_ns)

    def play(self, bodies: Mapping[NodeId, bytes], *, waited: Collection[NodeId], until_ns: int | None) -> Ended:
        """See `Conductor.conduct`. After an error the troupe is of no more use: close it.

        Raises:
            Unreachable: a node process died, never came, or stalls.
            Whatever breaks a node.
        """
        for node in bodies:
            if node not in self.processes:
                self._start(node)
        return self._conductor.conduct(bodies, waited=waited, until_ns=until_ns)

    def check(self) -> None:
        """Raise Unreachable if a process has ended; it names the node and says what it said last."""
        for node, process in self.processes.items():
            status = process.poll()
            if status is not None:
                said = self._log(node).read_text(errors="replace").strip().rpartition("\n")[2]
                how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
                raise Unreachable(f"{node}: its process {how}{f': {said}' if said else ''}; the run in lockstep is over")

    def close(self) -> None:
        """End all processes and the router."""
        for process in self.processes.values():
            assert process.stdin is not None
            process.stdin.close()
        for process in self.processes.values():
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._session.close()  # type: ignore[no-untyped-call]
        self._router.close()  # type: ignore[no-untyped-call]

    def __enter__(self) -> Troupe:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _log(self, node: NodeId) -> Path:
        return self._logs / f"{node}.log"

    def _start(self, node: NodeId) -> None:
        with self._log(node).open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-m", self._module], env=worker_environment(), stdin=subprocess.PIPE, stderr=log
            )
        self.processes[node] = process
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(Hello(str(self._endpoint), self._run, node)) + b"\n")
        process.stdin.flush()
