"""A node's process in a live run: `python -m kuberml.scenario.live.actor FOLDER NODE`, started by `crew` or by a batch system.

It deals its own part from the scenario and the seed, as the simulated world does for everybody, joins the hub, and waits for
its cue. Killed and started again it goes on from its vault. SIGTERM and SIGUSR1 mean that its time is up: it leaves in order
and says AGAIN.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from pathlib import Path

import msgspec

from kuberml.core.errors import ConfigError, KuberError, RemoteError, Unreachable
from kuberml.core.ids import NodeId
from kuberml.core.seam import Clock, Compute, Store, Transport
from kuberml.core.values import dumps
from kuberml.scenario.live.counted import CountedCompute, CountedTransport
from kuberml.scenario.live.playbill import PROMPTER, find_hub, read_playbill
from kuberml.scenario.live.standing import Standing
from kuberml.scenario.live.status import ASK, Cue, Phase, Status
from kuberml.scenario.parts import Parts
from kuberml.scenario.public_things import PublicThings
from kuberml.worlds.live.energy import Modelled
from kuberml.worlds.live.trust.by_roll import RollTrust
from kuberml.worlds.live.world import LiveWorld

AGAIN, WRONG = 75, 2
"""Exit statuses: the time is up but the part is not, start me again (EX_TEMPFAIL); and: a setting is wrong, do not."""
BEGUN = "live/begun"
"""In a node's memory: its part has begun once. Started again, it goes on at once."""
CUE_S, AGAIN_S, ALONE_S = 15.0, 0.5, 120.0
"""Patience with one answer of the prompter; before it is asked again; and after which a node without it gives up."""
GRACE_S, FAREWELL_S = 8.0, 2.0
"""For a job that runs while the process must leave, and for a part that is told to end."""


class Stand:
    """The world of one node, as `Parts` wants it."""

    def __init__(self, world: LiveWorld) -> None:
        self._world = world
        self.counted, self.computed = CountedTransport(world.transport), CountedCompute(world.compute)
        self._energy = Modelled()

    def clock(self, node: NodeId) -> Clock:
        """The node's Clock."""
        return self._world.clock

    def transport(self, node: NodeId) -> Transport:
        """The node's Transport."""
        return self.counted

    def compute(self, node: NodeId) -> Compute:
        """The node's Compute."""
        return self.computed

    def store(self, node: NodeId) -> Store:
        """The node's Store."""
        return self._world.store

    def usage(self) -> dict[str, int]:
        """Of a USAGE event."""
        energy_mj = round(1000 * self._energy.joules())
        return {"moved_bytes": self.counted.caused_bytes, "energy_mj": energy_mj, "flops": self.computed.flops}


class Actor:
    """One node at its hub."""

    def __init__(self, world: LiveWorld, parts: Parts, node: NodeId, folder: Path) -> None:
        self._world, self._parts, self._node = world, parts, node
        self._stand = Stand(world)
        data = parts.cast[node][1].data
        heldout, labels = (data.heldout, data.labels) if data else (None, ())
        self._standing = Standing(folder, world.recorder(), world.ledger, heldout, labels, self._stand.usage)
        self.leaving = asyncio.Event()
        self._part: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """Live until the end is called, or the time is up. The exit status.

        Raises:
            Whatever the part raises; Unreachable: the prompter is gone.
        """
        if BEGUN in self._world.store.memory():
            self._begin()
        heard_s = asyncio.get_running_loop().time()
        while not self.leaving.is_set():
            try:
                cue = await self._cue()
                heard_s = asyncio.get_running_loop().time()
            except (Unreachable, RemoteError) as error:  # the hub or the prompter is away: what is under way goes on
                if asyncio.get_running_loop().time() - heard_s > ALONE_S:
                    raise Unreachable(f"nobody has told {self._node} what to do for {ALONE_S:g} s: {error}") from error
                await asyncio.sleep(AGAIN_S)
                continue
            if cue.act == "play" and self._part is None:
                self._world.store.remember({BEGUN: dumps(True)})
                self._begin()
                await asyncio.sleep(0)  # its handlers are there before anybody is told that it plays
            elif cue.act == "end":
                await self._end()
                return 0
            if self._part is not None and self._part.done():
                self._part.result()
        if self._part is not None and not self._part.done():
            with contextlib.suppress(KuberError):
                await self._world.transport.ask(PROMPTER, ASK, self._said("leaving"), timeout_s=1.0)
        await self._end()
        return AGAIN

    def _begin(self) -> None:
        self._part = asyncio.get_running_loop().create_task(self._play(), name=f"the part of {self._node}")

    async def _play(self) -> None:
        await self._parts.main(self._node, self._stand, self._standing, self._standing, beside=asyncio.to_thread)
        await self._standing.settled()  # who says that it is done says how well, too

    async def _cue(self) -> Cue:
        """Say how it stands; what is to be done. The prompter answers at once when that has changed, else after a while."""
        asking = asyncio.ensure_future(self._world.transport.ask(PROMPTER, ASK, self._said(self._phase), timeout_s=CUE_S))
        stop, over = asyncio.ensure_future(self.leaving.wait()), [self._part] if self._part and not self._part.done() else []
        try:
            await asyncio.wait([asking, stop, *over], return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                return msgspec.json.decode(await asking, type=Cue)
            return Cue("wait")  # its part has just ended, or its time is up: it says so at once
        finally:
            asking.cancel()
            stop.cancel()

    @property
    def _phase(self) -> Phase:
        if self._part is None:
            return "ready"
        if not self._part.done():
            return "playing"
        return "gave up" if self._node in self._parts.gave_up else "done"

    def _said(self, phase: Phase) -> bytes:
        self._standing.use()
        self._standing.flush()
        traffic, standing = self._stand.counted.traffic, self._standing
        return msgspec.json.encode(
            Status(
                phase=phase, why=str(self._parts.gave_up.get(self._node, ""))[:2000], step=standing.step,
                labels=tuple(sorted(standing.labels))[:200], accuracy_ppm=standing.accuracy_ppm,
                sent_bytes=traffic.sent_control, received_bytes=traffic.received_control + traffic.received_blob,
                accepted=standing.accepted, refused=standing.refused, **self._stand.usage(),
            )
        )  # fmt: skip

    async def _end(self) -> None:
        """End the part: by a word, then by cancelling it. What it remembered stays."""
        if self._part is None:
            return
        if (node := self._parts.nodes.get(self._node)) is not None:
            node.end()
        await asyncio.wait([self._part], timeout=FAREWELL_S)
        self._part.cancel()
        await asyncio.wait([self._part])
        self._standing.use()


async def live(folder: Path, node: NodeId) -> int:
    """One node's life in the run of a folder. The exit status.

    Raises:
        ConfigError: no such run, or no such part in it.
        Whatever the part raises; Unreachable: the prompter is gone.
    """
    playbill = read_playbill(folder)
    if playbill.scripts:
        sys.path.insert(0, playbill.scripts)
    config = playbill.config
    parts = Parts(config, playbill.label, playbill.seed, PublicThings(config), playbill.deal)
    if node not in parts.cast:
        raise ConfigError(f"{node} has no part in {folder}; there are {', '.join(parts.cast)}")
    role, actor = parts.cast[node]
    hub = await find_hub(folder)
    opening = LiveWorld.open(
        hub.address, node=node, role=role, keys=actor.keys, vault=folder / "nodes" / node, realm=playbill.realm,
        trust=RollTrust(playbill.realm, owner=playbill.owner), serve_http="127.0.0.1:0" if playbill.doors else None,
    )  # fmt: skip
    async with opening as world:
        me = Actor(world, parts, node, folder)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGUSR1):
            loop.add_signal_handler(number, _leave, me, folder, node)
        return await me.run()


def exit_file(folder: Path, node: NodeId) -> Path:
    """Where a node's process leaves its exit status, for who cannot ask the system."""
    return folder / "logs" / f"{node}.exit"


def _leave(actor: Actor, folder: Path, node: NodeId) -> None:
    """Begin to leave. A job cannot be stopped in its middle: the process does not wait for it longer than GRACE_S."""

    def at_once() -> None:
        _say_how_it_ended(folder, node, AGAIN)
        os._exit(AGAIN)

    actor.leaving.set()
    last = threading.Timer(GRACE_S, at_once)
    last.daemon = True
    last.start()


def _say_how_it_ended(folder: Path, node: NodeId, code: int) -> None:
    with contextlib.suppress(OSError):
        exit_file(folder, node).write_text(str(code))


def hang_on(line: int) -> None:
    """Leave when whoever started this process is gone: its end of the line closes."""

    def listen() -> None:
        while os.read(line, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=listen, daemon=True).start()


def main(arguments: list[str]) -> int:
    """The process. `--line`: standard input is the line to whoever started it."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started it
    if arguments[2:] == ["--line"]:
        hang_on(0)
    folder, node = Path(arguments[0]), NodeId(arguments[1])
    try:
        code = asyncio.run(live(folder, node))
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        code = WRONG
    _say_how_it_ended(folder, node, code)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
