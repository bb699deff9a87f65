"""A node process for tests of runs in lockstep: small parts that need no scenario."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import msgspec

from kuberml.core.ids import NodeId
from kuberml.worlds.live.lockstep.member import serve
from kuberml.worlds.live.lockstep.orders import Begin
from kuberml.worlds.live.lockstep.wire import Wire
from kuberml.worlds.live.lockstep.world import LockstepWorld
from kuberml.worlds.simulated.bodies import Place
from tests.worlds.simulated.little import DEVICE, LINK, ROLES


async def for_ever() -> None:
    while True:  # noqa: ASYNC110 - it is there to take steps
        await asyncio.sleep(0.01)


async def breaks() -> None:
    await asyncio.sleep(0.5)
    raise ZeroDivisionError("three by nothing")


async def waits_in_vain() -> None:
    await asyncio.get_running_loop().create_future()


PARTS = {"for ever": for_ever, "breaks": breaks, "waits in vain": waits_in_vain}


def perform(wire: Wire, begin: Begin) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        world = LockstepWorld(wire, begin, Place(wire.node, ROLES[wire.node], DEVICE, LINK), ROLES, Path(folder))
        try:
            world.run(PARTS[msgspec.json.decode(begin.body, type=str)])
        finally:
            world.close()
    return b""


def bodies(**parts: str) -> dict[NodeId, bytes]:
    return {NodeId(node): msgspec.json.encode(part) for node, part in parts.items()}


if __name__ == "__main__":
    serve(perform)
