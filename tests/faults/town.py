"""The town: a hub, publishers and receivers as real processes, each with a line that can be cut and a disk that can be full."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from kuberml.worlds.live.names import free_port
from kuberml.worlds.live.world import LiveWorld
from tests.faults.controls import journal, read_json, write_json
from tests.faults.disks import Disk, disk, unmount
from tests.faults.packages import keys_of
from tests.faults.processes import Actor
from tests.faults.proxy import Line, Proxy, process_of

ROOT = Path(__file__).parents[2]
LOCAL = "127.0.0.1"


class Town:
    """See the module; made by `town`."""

    def __init__(self, folder: Path, publishers: int, receivers: int) -> None:
        self.folder = folder
        self.publishers = [f"pub-{number}" for number in range(publishers)]
        self.receivers = [f"rec-{number}" for number in range(receivers)]
        self.members = [*self.publishers, *self.receivers]
        self.actors: dict[str, Actor] = {}
        self.lines = {name: Line() for name in self.members}
        self.disks: dict[str, Disk] = {}
        self.port, self.http_port = free_port(LOCAL), free_port(LOCAL)
        self.phase, self.inspector = 0, None
        self.inspector: LiveWorld
        self._http = Proxy(self.http_port, self._line_of)
        self._doors = {name: Proxy(self.port, lambda port, name=name: self.lines[name]) for name in self.members}

    def set_phase(self, *, quiet: bool) -> None:
        """Tell the publishers: a new phase has begun; say one thing more in it, and then be quiet (or go on)."""
        self.phase += quiet
        write_json(self.folder / "control" / "town.json", {"phase": self.phase, "quiet": quiet})

    def set_clock(self, name: str, offset_s: float) -> None:
        """From now on this actor's wall clock is off by so much."""
        path = self.folder / "control" / f"{name}.clock"
        write_json(path, offset_s)

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
        await self._http.open()
        for door in self._doors.values():
            await door.open()
        self._add("hub", f"{LOCAL}:{self.port}", "--http", f"{LOCAL}:{self.http_port}",
                  "--advertise", f"http://{LOCAL}:{self._http.port}")  # fmt: skip
        for name in self.members:
            self._add(name, f"{LOCAL}:{self._doors[name].port}")
        for actor in self.actors.values():
            actor.start()

    async def close(self) -> None:
        """Stop everything."""
        for line in self.lines.values():
            line.mend()
        await asyncio.gather(*(actor.stop() for actor in self.actors.values()))
        for proxy in (self._http, *self._doors.values()):
            await proxy.close()
        for name in self.disks:
            with contextlib.suppress(OSError):  # it never came so far
                shutil.copy(self.vault(name) / "ledger.sqlite", self.folder / "logs" / f"{name}.ledger.sqlite")
            unmount(self.folder / "disks" / name)

    def _add(self, name: str, address: str, *more: str) -> None:
        self.disks[name] = disk(self.folder / "disks" / name)
        command = [
            "-m",
            "tests.faults.actor",
            name,
            str(self.folder),
            "--vault",
            str(self.vault(name)),
            "--address",
            address,
            *more,
        ]
        environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        self.actors[name] = Actor(name, command, self.folder / "logs" / f"{name}.log", environment)

    def _line_of(self, port: int) -> Line | None:
        pids = {actor.pid: name for name, actor in self.actors.items() if actor.pid is not None and name in self.lines}
        found = process_of(port, list(pids))
        return None if found is None else self.lines[pids[found]]


@contextlib.asynccontextmanager
async def town(folder: Path, *, publishers: int = 2, receivers: int = 2) -> AsyncIterator[Town]:
    """A town that lives until the end of the block, and an inspector who is a member like any, without faults."""
    made = Town(folder, publishers, receivers)
    try:
        await made.open()
        inspector = LiveWorld.open(
            f"{LOCAL}:{made.port}", node="inspector", role="inspector", keys=keys_of("inspector"), vault=folder / "inspector"
        )
        async with inspector as made.inspector:
            yield made
    finally:
        await made.close()
