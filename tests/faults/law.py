"""The law: no accepted knowledge lost, none applied twice, no hand needed. Looked at while the town is quiet.

settle(town)    heal is over: everything must be as it should be within SETTLE_S; how long that took, in seconds
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from pathlib import Path

from kuberml.core.errors import KuberError
from kuberml.core.ids import Digest
from kuberml.core.values import digest
from kuberml.exchange.delivery import Delivery
from kuberml.exchange.node import Node
from kuberml.exchange.place import Place
from kuberml.knowledge.card import Knowledge
from kuberml.knowledge.pack import open_value
from kuberml.knowledge.want import Offer, Want
from kuberml.worlds.live.names import HUB
from tests.faults.packages import BIG, TASK, content, keys_of, total
from tests.faults.town import Town

SETTLE_S = 20.0
"""On a machine that has nothing else to do; where more wants to run than there are cores, so many times longer."""
LOOK_S = 0.25
READ_S = 5.0

MAX_RESIDENT_BYTES = 400 << 20
MAX_DESCRIPTORS = 200
MAX_UNDER_WAY = 16
"""Half-written files and pins of one vault while nothing is going on."""


class Broken(AssertionError):
    """The law does not hold, and why."""


class Law:
    """Looks at one town, and counts what it has seen."""

    def __init__(self, town: Town) -> None:
        self._town, self._verified = town, set[str]()
        self.last_problem = ""
        """What was the last to come right."""
        world = town.inspector
        place = Place(
            clock=world.clock, transport=world.transport, compute=world.compute, store=world.store,
            recorder=world.recorder(), role="inspector", task=TASK, keys=keys_of("inspector"), seed=0, hub=world.hub,
        )  # fmt: skip
        self._node = Node(place)

    async def settle(self, patience_s: float = SETTLE_S) -> float:
        """Wait until everything is as it should be, and say how long it took.

        Raises:
            Broken: not within patience_s.
        """
        town, began_s, within_s = self._town, time.monotonic(), patience_s * crowding()
        town.set_phase(quiet=True)
        problem = "it was not looked at"
        while time.monotonic() - began_s < within_s:
            for actor in town.actors.values():
                if actor.crashes:
                    raise Broken(actor.crashes[0])
            problem = await self._problem()
            if problem != self.last_problem:
                town.note(f"settling: {problem}")
            self.last_problem = problem or self.last_problem
            if problem is None:
                took_s = time.monotonic() - began_s
                self._check_limits()
                town.set_phase(quiet=False)
                return took_s
            await asyncio.sleep(LOOK_S)
        raise Broken(f"after {within_s:g} s: {problem}")

    async def _problem(self) -> str | None:
        """What is not yet as it should be; None: nothing."""
        town = self._town
        for name, actor in town.actors.items():
            if actor.pid is None:
                return f"{name} does not run"
        for name in town.publishers:
            status = town.status(name)
            if status.get("phase") != town.phase or status.get("due"):
                return f"{name} has not got everything to the hub: {status}"
        return self._receivers() or await self._hub()

    def _receivers(self) -> str | None:
        accepted = self._town.accepted()
        names = {keys_of(name).public: name for name in self._town.publishers}
        wanted = sorted((name, slot, line["version"]) for (name, slot), line in accepted.items() if slot != BIG)
        bigs = {name: line["version"] for (name, slot), line in accepted.items() if slot == BIG}
        for receiver in self._town.receivers:
            status = self._town.status(receiver)
            have = sorted((names.get(author, author), slot, version) for author, slot, version in status.get("entries", []))
            if have != wanted:
                return f"{receiver} lacks {sorted({*wanted} - {*have})} and has beyond {sorted({*have} - {*wanted})}"
            if status["total"] != total(wanted):
                return f"{receiver}: its sum is not that of the {len(wanted)} packages, each once"
            got = {names.get(author, author): version for author, version in status[BIG].items()}
            if got != bigs:
                return f"{receiver} has the big ones {got}, not {bigs}"
        return None

    async def _hub(self) -> str | None:
        """Whether the hub offers everything as its own, and gives what was not looked at before byte by byte."""
        try:
            offers = [
                offer
                for kind in ("statistics", "weights")
                for offer in await self._node.find(Want(TASK, kinds=(kind,), limit=512))
            ]
            offered = {offer.signed.digest: offer for offer in offers}
            for (name, slot), line in self._town.accepted().items():
                offer = offered.get(line["card"])
                if offer is None or HUB not in offer.holders:
                    how = "not at all" if offer is None else "not itself"
                    return f"the hub offers {name}'s {slot} version {line['version']} {how}"
                if line["card"] not in self._verified:
                    await self._verify(offer, name, slot, line["version"])
                    self._verified.add(line["card"])
        except KuberError as error:
            return f"the hub cannot be read: {error}"
        return None

    async def _verify(self, offer: Offer, name: str, slot: str, version: int) -> None:
        store = self._town.inspector.store
        delivery = Delivery(self._town.inspector.transport, store, timeout_s=READ_S, on_bytes=lambda count: None)
        blobs = await delivery.fetch(offer.signed.card, [HUB])
        if digest(open_value(Knowledge(offer.signed, blobs))) != digest(content(name, slot, version)):
            raise Broken(f"the hub gives other content for {name}'s {slot} version {version}")
        for ref in offer.signed.card.blobs:
            store.delete(Digest(ref.digest))

    def _check_limits(self) -> None:
        for name, actor in self._town.actors.items():
            resident, descriptors, under_way = actor.resident_bytes(), actor.descriptors(), _under_way(self._town.vault(name))
            if resident > MAX_RESIDENT_BYTES or descriptors > MAX_DESCRIPTORS or under_way > MAX_UNDER_WAY:
                raise Broken(f"{name} grows: {resident >> 20} MiB, {descriptors} descriptors, {under_way} things under way")


def crowding() -> float:
    """How many times longer everything takes now than on an idle machine; at most 4."""
    return min(4.0, max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0))))


def _under_way(vault: Path) -> int:
    """Half-written files, folders of dead sessions, and pins."""
    parts = sum(1 for _ in vault.rglob("*.part"))
    sessions = sum(1 for path in (vault / "sessions").iterdir() if path.is_dir())
    index = sqlite3.connect(f"file:{vault / 'index.sqlite'}?mode=ro", uri=True, timeout=5.0)
    try:
        return parts + sessions + int(index.execute("SELECT count(*) FROM pins").fetchone()[0])
    finally:
        index.close()
