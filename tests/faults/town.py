"""The town: a hub, publishers and receivers as real processes, each with a line that can be cut and a disk that can be full."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from kuberml.worlds.live.world import LiveWorld
from tests.faults.controls import faked, journal, read_json, write_json, write_whole
from tests.faults.disks import Disk, disk, unmount
from tests.faults.networks import Cable, Loopback, Network
from tests.faults.packages import keys_of
from tests.faults.processes import Actor

ROOT = Path(__file__).parents[2]


class Town:
    """See the module; made by `town`."""

    inspector: LiveWorld

    def __init__(self, folder: Path, publishers: int, receivers: int, lay: Callable[[list[str]], Network]) -> None:
        self.folder, self.phase = folder, 0
        self.publishers = [f"pub-{number}" for number in range(publishers)]
        self.receivers = [f"rec-{number}" for number in range(receivers)]
        self.members = [*self.publishers, *self.receivers]
        self.actors: dict[str, Actor] = {}
        self.disks: dict[str, Disk] = {}
        self.network = lay(self.members)
        self.faketime = False
        """Whether libfaketime makes clocks jump for all code of a process, not for Python's only."""

    @property
    def lines(self) -> dict[str, Cable]:
        """To be cut, by member."""
        return self.network.lines

    def note(self, what: str) -> None:
        """Take down what the harness did and saw, with the time: the way to find out why something took long."""
        with (self.folder / "notes.txt").open("a") as file:
            file.write(f"{time.time():.2f} {what}\n")

    def set_phase(self, *, quiet: bool) -> None:
        """Tell the publishers: a new phase has begun; say one thing more in it, and then be quiet (or go on)."""
        self.phase += quiet
        write_json(self.folder / "control" / "town.json", {"phase": self.phase, "quiet": quiet})

    def set_clock(self, name: str, offset_s: float) -> None:
        """From now on this actor's wall clock is off by so much."""
        write_whole(self.folder / "control" / f"{name}.clock", f"{offset_s:+.0f}")

    def status(self, name: str) -> dict:
        """What a member said last."""
        return read_json(self.folder / "status" / f"{name}.json", {})

    def accepted(self) -> dict[tuple[str, str], dict]:
        """The newest that the hub has accepted of each publisher and slot."""
        newest: dict[tuple[str, str], dict] = {}
        for name in self.publishers:
            for line in journal(self.folder / "journal" / f"{name}.jsonl"):
                if line["version"] >= newest.get((name, line["slot"]), line)["version"]:
                    newest[name, line["slot"]] = line
        return newest

    def vault(self, name: str) -> Path:
        """Where an actor keeps its things."""
        return self.folder / "disks" / name / "vault"

    async def open(self) -> None:
        """Start everything."""
        for sub in ("control", "status", "journal", "logs"):
            (self.folder / sub).mkdir(parents=True)
        self.set_phase(quiet=False)
        await self.network.open(self._pids)
        where, http = self.network.hub_listens
        self._add("hub", where, "--http", http, "--advertise", self.network.advertise)
        for name in self.members:
            self._add(name, self.network.address(name))
        for actor in self.actors.values():
            actor.start()

    async def close(self) -> None:
        """Stop everything."""
        for line in self.lines.values():
            with contextlib.suppress(subprocess.CalledProcessError):  # it never came so far
                line.mend()
        await asyncio.gather(*(actor.stop() for actor in self.actors.values()))
        await self.network.close()
        for name in self.disks:
            with contextlib.suppress(OSError):  # it never came so far
                shutil.copy(self.vault(name) / "ledger.sqlite", self.folder / "logs" / f"{name}.ledger.sqlite")
            unmount(self.folder / "disks" / name)

    def _add(self, name: str, address: str, *more: str) -> None:
        self.disks[name] = disk(self.folder / "disks" / name)
        program = [*self.network.prefix(name), sys.executable, "-m", "tests.faults.actor"]
        command = [*program, name, str(self.folder), "--vault", str(self.vault(name)), "--address", address, *more]
        environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        self.set_clock(name, 0.0)
        if self.faketime:
            environment |= faked(self.folder / "control" / f"{name}.clock")
        self.actors[name] = Actor(name, command, self.folder / "logs" / f"{name}.log", environment, self.note)

    def _pids(self) -> dict[int, str]:
        return {actor.pid: name for name, actor in self.actors.items() if actor.pid is not None and name in self.lines}


@contextlib.asynccontextmanager
async def town(
    folder: Path,
    *,
    publishers: int = 2,
    receivers: int = 2,
    lay: Callable[[list[str]], Network] = Loopback,
    faketime: bool = False,
) -> AsyncIterator[Town]:
    """A town that lives until the end of the block, and an inspector who is a member like any, without faults."""
    made = Town(folder, publishers, receivers, lay)
    made.faketime = faketime
    keys, vault = keys_of("inspector"), folder / "inspector"
    try:
        await made.open()
        inspecting = LiveWorld.open(made.network.inspector, node="inspector", role="inspector", keys=keys, vault=vault)
        async with inspecting as made.inspector:
            yield made
    finally:
        await made.close()
