"""One live run: one paradigm, one seed, from the first process to the last; what it came to is read by `ending`.

run = LiveRun(config, "kuber", 0, folder)
await run.play(tell)
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from kuberml.core.errors import Unreachable
from kuberml.core.ids import NodeId
from kuberml.core.units import NS
from kuberml.scenario.config import Config
from kuberml.scenario.live.crew import Crew
from kuberml.scenario.live.elapsed import Elapsed, read_elapsed, write_elapsed
from kuberml.scenario.live.losses import Losses
from kuberml.scenario.live.playbill import (
    PREDICTORS,
    PROMPTER,
    WHERE,
    Playbill,
    Whereabouts,
    drawn,
    find_hub,
    found_realm,
    is_begun,
    new_secret,
    read_playbill,
    write_playbill,
)
from kuberml.scenario.live.prompter import Prompter
from kuberml.scenario.live.slurm import Slurm, SlurmCrew
from kuberml.scenario.live.status import Status
from kuberml.scenario.live.view import Row, Tell, View
from kuberml.scenario.parts import Parts
from kuberml.scenario.public_things import PublicThings
from kuberml.worlds.live.energy import Meter, meters
from kuberml.worlds.live.names import HUB
from kuberml.worlds.live.trust.by_roll import RollTrust
from kuberml.worlds.live.world import LiveWorld

START_S = 300.0
"""For all processes to come; a batch system's queue may take for ever."""
LOOK_S = 0.1
TELL_S = 0.25


class LiveRun:
    """See the module.

    Attributes:
        parts: who plays what.
        is_started: its processes could be started: what went wrong then is this run's own.
        finished: all that are waited for have ended; False: `until_s` came first.
        began_ns, ended_ns: of the system's clock.
        heard: what each node said last.
        losses: whose process died.
        joules: (time_ns, millijoules of this machine since the beginning), where the machine measures them.
    """

    def __init__(
        self, config: Config, label: str, seed: int, folder: Path, *, scripts: str = "", slurm: Slurm | None = None
    ) -> None:
        """Set the stage; no process runs yet. A run that was stopped in this folder goes on: every node from its own vault.

        `slurm`: learners are its jobs, not processes here.

        Raises:
            ConfigError: an option is unknown or impossible, the data cannot be dealt that way, or the folder cannot be written.
        """
        self.config, self.label, self.seed, self.folder = config, label, seed, folder
        before = read_playbill(folder) if is_begun(folder) else None
        secret = new_secret() if before is None else bytes.fromhex(before.secret)
        self.keys = drawn(secret)
        self.parts = Parts(config, label, seed, PublicThings(config), self.keys)
        self.finished, self.began_ns, self.ended_ns = False, 0, 0
        self.is_started = False
        self.joules: list[tuple[int, int]] = []
        self.heard: dict[NodeId, Status] = {}
        self._meters: list[Meter] = []
        self._page, self._goes_on = "", False
        self.elapsed = read_elapsed(folder)
        host = "127.0.0.1" if slurm is None else slurm.address
        if before is None:
            self.playbill = self._found(secret, host=host, doors=slurm is None, scripts=scripts)
        else:
            self.playbill = msgspec.structs.replace(before, host=host, doors=slurm is None, scripts=scripts)
            (folder / WHERE).unlink(missing_ok=True)  # the hub finds other ports free
        write_playbill(folder, self.playbill)
        learners = [actor.node for actor in self.parts.stage.learners]
        self.crew = Crew(folder) if slurm is None else SlurmCrew(folder, slurm, learners)
        self.losses = Losses(self.parts, self.crew)
        self._start_s = START_S if slurm is None else math.inf

    def _found(self, secret: bytes, *, host: str, doors: bool, scripts: str) -> Playbill:
        """A new run: its folder, and a realm that lets in its cast and nobody else."""
        shutil.rmtree(self.folder, ignore_errors=True)  # who was stopped in the middle of this
        (self.folder / PREDICTORS).mkdir(parents=True)
        realm = f"up-{secrets.token_hex(4)}"
        members = {node: actor.keys.public for node, (_, actor) in self.parts.cast.items() if node != HUB}
        members[PROMPTER] = self.keys(self.seed, PROMPTER).public
        owner = found_realm(self.folder / "nodes" / HUB, realm, members)
        return Playbill(
            config=self.config, label=self.label, seed=self.seed, host=host, doors=doors,
            realm=realm, owner=owner, secret=secret.hex(), scripts=scripts,
        )  # fmt: skip

    @property
    def away_s(self) -> float:
        """Seconds for which it was stopped, if it was resumed."""
        return 0.0 if self.elapsed is None else self.elapsed.away_ns / NS

    @property
    def energy_label(self) -> str:
        """What the joules are; "": this machine measures none, and those of the nodes are modelled."""
        return ", ".join(meter.label for meter in self._meters)

    async def play(self, tell: Tell, stop: asyncio.Event) -> None:
        """Run it to its end, or until `stop`.

        Raises:
            Unreachable: a process that everybody needs died too often, or not everybody came; or all that the run waits for
                gave up.
            ConfigError: as a node's process said.
        """
        self._meters = [meter for meter in meters() if meter.label.startswith("measured")]
        cast = {node: role for node, (role, _) in self.parts.cast.items() if node != HUB}
        try:
            self.crew.start([HUB, *cast])
            self.is_started = True
            hub = await self._hub(stop)
            if hub is None:
                return
            async with self._joined(hub) as world:
                prompter = Prompter(world.transport, world.clock, cast, self.parts.waited)
                self.heard = prompter.heard
                await self._watch(prompter, world, tell, stop)
                self.ended_ns = world.clock.now_ns()
                prompter.end()
                if self.finished:
                    self.losses.check(prompter)
                await self.crew.wait(list(cast))
        finally:
            await self.crew.stop()

    @contextlib.asynccontextmanager
    async def _joined(self, hub: Whereabouts) -> AsyncIterator[LiveWorld]:
        bill, self._page = self.playbill, hub.page
        opening = LiveWorld.open(
            hub.address, node=PROMPTER, role=PROMPTER, keys=self.keys(self.seed, PROMPTER), realm=bill.realm,
            vault=self.folder / "nodes" / PROMPTER, trust=RollTrust(bill.realm, owner=bill.owner),
        )  # fmt: skip
        async with opening as world:
            yield world

    async def _hub(self, stop: asyncio.Event) -> Whereabouts | None:
        """Where the hub is, as soon as it is ready; None: stopped first. Raises Unreachable: it died too often."""
        finding = asyncio.ensure_future(find_hub(self.folder))
        try:
            while not (await asyncio.wait([finding], timeout=LOOK_S))[0]:
                if stop.is_set():
                    return None
                self.losses.look(None)
            return finding.result()
        finally:
            finding.cancel()

    async def _watch(self, prompter: Prompter, world: LiveWorld, tell: Tell, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        began_s, told_s, until_s = loop.time(), 0.0, self.config.world.until_s
        while not stop.is_set() and not prompter.is_over:
            self.losses.look(prompter)
            now_ns = world.clock.now_ns()
            time_s = self._time_s(prompter, now_ns)
            if time_s is None and loop.time() - began_s > self._start_s:
                raise Unreachable(
                    f"{', '.join(prompter.missing())}: not there {self._start_s:g} s after the start; see {self.folder}/logs"
                )
            if loop.time() - told_s >= TELL_S:
                told_s = loop.time()
                self._take_down(now_ns)
                tell(self._view(prompter, time_s))
            if time_s is not None and time_s > until_s:
                break
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_S)
        self.finished, self.began_ns = prompter.is_over, 0 if self.elapsed is None else self.elapsed.began_ns
        self._take_down(world.clock.now_ns())
        tell(self._view(prompter, self._time_s(prompter, world.clock.now_ns())))

    def _time_s(self, prompter: Prompter, now_ns: int) -> float | None:
        """Of the run's time, what has passed; None: not everybody is here (again)."""
        if prompter.began_ns is None:
            return None
        if self.elapsed is None:
            self.elapsed = Elapsed(prompter.began_ns, prompter.began_ns)
        elif not self._goes_on:
            self.elapsed = self.elapsed.again(prompter.began_ns)
        self._goes_on = True
        return self.elapsed.played_ns(now_ns) / NS

    def _take_down(self, now_ns: int) -> None:
        if self._goes_on and self.elapsed is not None:
            self.elapsed = msgspec.structs.replace(self.elapsed, seen_ns=now_ns)
            write_elapsed(self.folder, self.elapsed)
        if self._meters:
            self.joules.append((now_ns, round(1000 * sum(meter.joules() for meter in self._meters))))

    def _view(self, prompter: Prompter, time_s: float | None) -> View:
        rows = []
        for node, (role, _) in self.parts.cast.items():
            status, deaths, lost = prompter.heard.get(node), self.losses.deaths.get(node, 0), node in prompter.lost
            rows.append(Row(node, role, status, deaths, lost, self.crew.pid(node)))
        return View(
            paradigm=self.label, seed=self.seed, time_s=time_s, until_s=self.config.world.until_s,
            moved_bytes=sum(status.moved_bytes for status in prompter.heard.values()),
            page=self._page, rows=tuple(rows), news=tuple(self.losses.news),
        )  # fmt: skip
