"""One process of the town: `python -m tests.faults.actor NAME FOLDER ...`; NAME is hub, pub-N or rec-N."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from kuberml.exchange.node import Node
from kuberml.exchange.place import Place
from kuberml.worlds.live.hub.process import HubProcess
from kuberml.worlds.live.world import LiveWorld
from tests.faults.controls import Controls
from tests.faults.packages import TASK, keys_of
from tests.faults.publisher import publish_on
from tests.faults.receiver import receive_on


async def run_hub(asked: argparse.Namespace, controls: Controls) -> None:
    """A hub until SIGTERM."""
    async with HubProcess.open(asked.vault, listen=asked.address, http=asked.http, advertise_http=asked.advertise) as hub:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, hub.stop)
        controls.say(phase=-1)
        await hub.until_closed()


async def run_member(asked: argparse.Namespace, controls: Controls) -> None:
    """A publisher or a receiver until SIGTERM."""
    keys, role = keys_of(asked.name), asked.name.partition("-")[0]
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with LiveWorld.open(asked.address, node=asked.name, role=role, keys=keys, vault=asked.vault) as world:
        place = Place(
            clock=world.clock, transport=world.transport, compute=world.compute, store=world.store, recorder=world.recorder(),
            role=role, task=TASK, keys=keys, seed=0, hub=world.hub,
        )  # fmt: skip
        work = publish_on if role == "pub" else receive_on
        working = asyncio.ensure_future(work(world, Node(place), controls))
        ending = asyncio.ensure_future(ended.wait())
        await asyncio.wait((working, ending), return_when=asyncio.FIRST_COMPLETED)
        for task in (working, ending):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working


def show_tasks() -> None:
    """What everybody waits for, on standard error: asked for with SIGUSR1 when the law is broken."""
    for task in asyncio.all_tasks():
        task.print_stack()


async def main() -> None:
    reader = argparse.ArgumentParser()
    reader.add_argument("name")
    reader.add_argument("folder", type=Path)
    reader.add_argument("--vault", type=Path, required=True)
    reader.add_argument("--address", required=True)
    reader.add_argument("--http", default="")
    reader.add_argument("--advertise", default=None)
    asked = reader.parse_args()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, show_tasks)
    controls = Controls(asked.folder, asked.name)
    following = asyncio.ensure_future(controls.following())
    try:
        await (run_hub if asked.name == "hub" else run_member)(asked, controls)
    finally:
        following.cancel()


if __name__ == "__main__":
    asyncio.run(main())
    sys.exit(0)
