"""Learners of a live run as jobs of a Slurm cluster: a shared folder, and connections out to the hub only.

Every learner is one task of a job array. Before its walltime ends it is told (`sbatch --signal`), leaves in order with what it
remembers on the shared folder, and is submitted again, as often as it takes. Hub, library and server run where `kuberml up`
does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from kuberml.core.errors import ConfigError, KuberError, Unreachable
from kuberml.core.ids import NodeId
from kuberml.scenario.live.actor import WRONG, exit_file
from kuberml.scenario.live.crew import END_S, ONE_THREAD, Crew, Death

POLL_S = 2.0
"""Between looks at the queue."""
CALL_S = 20.0
"""Patience with one of Slurm's commands."""
ARRAY = 500
"""Learners in one array at most; clusters limit it (MaxArraySize, 1001 unless set)."""
TIME = re.compile(r"\d+|\d+:\d\d|\d+:\d\d:\d\d|\d+-\d+(:\d\d){0,2}")

_SCRIPT = """#!/bin/sh
{exports}
node=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {learners})
exec >>{logs}/"$node.log" 2>&1
exec {python} -m kuberml.scenario.live.actor {folder} "$node"
"""


class Slurm(msgspec.Struct, frozen=True, kw_only=True):
    """How to ask for machines.

    Attributes:
        partition: "": the cluster's default.
        time: walltime of one job, as sbatch takes it ("30", "2:00:00"); "": the partition's.
        grace_s: how long before the end of the walltime a learner is told. Slurm may tell it up to a minute earlier.
        host: address of this machine that learners can dial; "": by its own name.
        options: more options of sbatch.
    """

    partition: str = ""
    time: str = ""
    grace_s: int = 60
    host: str = ""
    options: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises ConfigError: no Slurm here, or a walltime that sbatch would not take."""
        missing = [name for name in ("sbatch", "squeue", "scancel") if shutil.which(name) is None]
        if missing:
            raise ConfigError(f"--on slurm: no command {missing[0]!r} here; run it on a login node of the cluster")
        if self.time and TIME.fullmatch(self.time) is None:
            raise ConfigError(f"--time {self.time!r}: write minutes, or hours:minutes:seconds, as for sbatch")

    @property
    def address(self) -> str:
        """This machine, as others can dial it. Raises ConfigError: its name leads back to itself."""
        if self.host:
            return self.host
        try:
            found = socket.gethostbyname(socket.gethostname())
        except OSError:
            found = "127.0.0.1"
        if found.startswith("127."):
            raise ConfigError(f"--host is missing: {socket.gethostname()!r} does not say where other machines reach this one")
        return found


class SlurmCrew(Crew):
    """The processes of a run of which the learners are jobs."""

    def __init__(self, folder: Path, slurm: Slurm, learners: Sequence[NodeId]) -> None:
        """Nothing is submitted yet.

        Args:
            folder: of the run, on a file system that the cluster's machines share.
            slurm: how to ask.
            learners: who are jobs; all others are processes here.
        """
        super().__init__(folder)
        self._slurm, self._places = slurm, {node: place for place, node in enumerate(learners)}
        self._jobs: dict[NodeId, str] = {}
        self._looked_s = 0.0
        (folder / "learners").write_text("".join(f"{node}\n" for node in learners))
        exports = {**ONE_THREAD, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        script = _SCRIPT.format(
            exports="\n".join(f"export {name}={shlex.quote(text)}" for name, text in exports.items()),
            learners=shlex.quote(str(folder / "learners")), logs=shlex.quote(str(folder / "logs")),
            python=shlex.quote(sys.executable), folder=shlex.quote(str(folder)),
        )  # fmt: skip
        (folder / "learner.sh").write_text(script)

    def start(self, nodes: Sequence[NodeId]) -> None:
        """See Crew. Raises ConfigError: sbatch refuses."""
        super().start([node for node in nodes if node not in self._places])
        jobs = [node for node in nodes if node in self._places]
        for first in range(0, len(jobs), ARRAY):
            self._submit(jobs[first : first + ARRAY])

    def check(self) -> list[Death]:
        """See Crew. The queue is looked at every POLL_S."""
        deaths = super().check()
        if time.monotonic() - self._looked_s < POLL_S:
            return deaths
        self._looked_s = time.monotonic()
        queued = self._queued()
        for node in [node for node, job in self._jobs.items() if job not in queued]:
            del self._jobs[node]
            code = self._exit_code(node)
            if code == WRONG:
                raise ConfigError(self.last_words(node))
            deaths.append(self.died(node, code, "its job ended without a word"))
        return deaths

    async def wait(self, nodes: Sequence[NodeId], timeout_s: float = END_S) -> None:
        """See Crew."""
        await super().wait([node for node in nodes if node not in self._places], timeout_s)
        until_s = time.monotonic() + timeout_s
        mine = {self._jobs[node] for node in nodes if node in self._jobs}
        while mine & self._queued() and time.monotonic() < until_s:  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(POLL_S / 2)
        self._cancel(sorted(mine & self._queued()))
        for node in nodes:
            self._jobs.pop(node, None)

    async def stop(self) -> None:
        """See Crew."""
        await self.wait(list(self._jobs), 0.0)
        await super().stop()

    def kill(self) -> None:
        """See Crew."""
        self._cancel(sorted(self._jobs.values()))
        super().kill()

    def _submit(self, nodes: Sequence[NodeId]) -> None:
        slurm, places = self._slurm, [self._places[node] for node in nodes]
        for node in nodes:
            exit_file(self.folder, node).unlink(missing_ok=True)
        options = [f"--array={','.join(map(str, places))}", f"--signal=B:USR1@{slurm.grace_s}", "--no-requeue", "--ntasks=1"]
        options += [f"--partition={slurm.partition}"] if slurm.partition else []
        options += [f"--time={slurm.time}"] if slurm.time else []
        options += [f"--output={self.folder / 'logs'}/slurm-%A_%a.out", f"--job-name=kuberml-{self.folder.name}"]
        said = _call("sbatch", "--parsable", *options, *slurm.options, str(self.folder / "learner.sh"))
        job = said.strip().split(";")[0]
        if not job.isdigit():
            raise ConfigError(f"sbatch said {said!r:.200} where a job's number was expected")
        self._jobs.update({node: f"{job}_{place}" for node, place in zip(nodes, places, strict=True)})

    def _queued(self) -> set[str]:
        """Tasks that wait or run. While the controller does not answer, all of them count as there."""
        try:
            said = _call("squeue", "--noheader", "--array", "--format=%F_%K", f"--user={os.getuid()}")
        except Unreachable:
            return set(self._jobs.values())
        return set(said.split())

    def _exit_code(self, node: NodeId) -> int | None:
        try:
            return int(exit_file(self.folder, node).read_text())
        except (OSError, ValueError):
            return None

    def _cancel(self, jobs: Sequence[str]) -> None:
        for job in jobs:
            with contextlib.suppress(KuberError):  # it has ended by itself, or its walltime will end it
                _call("scancel", job)


def _call(*command: str) -> str:
    """What one of Slurm's commands prints. Raises ConfigError: it refuses. Unreachable: the controller does not answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CALL_S, check=False)  # noqa: S603 - no shell
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unreachable(f"{command[0]}: {error}") from error
    if done.returncode:
        why = done.stderr.strip() or f"status {done.returncode}"
        if "Unable to contact" in why or "timed out" in why or command[0] == "squeue":
            raise Unreachable(f"{command[0]}: {why}")
        raise ConfigError(f"{command[0]} refuses: {why}")
    return done.stdout
