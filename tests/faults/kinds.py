"""The kinds of fault. Each does its harm, waits for a while, and takes it back; whoever is hit is drawn.

FAULTS["kill"](town, draw) -> a line of text that says what was done
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

import numpy as np

from tests.faults.town import Town

Fault = Callable[[Town, np.random.Generator], Awaitable[str]]
FAULTS: dict[str, Fault] = {}

CLOCK_JUMPS_S = (-3600.0, 3600.0, -10 * 365.25 * 86400, 10 * 365.25 * 86400)


def fault(doing: Fault) -> Fault:
    """Register a kind under the name of its function."""
    FAULTS[doing.__name__] = doing
    return doing


def _some(names: list[str], draw: np.random.Generator) -> str:
    return names[int(draw.integers(len(names)))]


@fault
async def kill(town: Town, draw: np.random.Generator) -> str:
    """kill -9 of a member."""
    name = _some(town.members, draw)
    town.actors[name].signal(signal.SIGKILL)
    return name


@fault
async def kill_hub(town: Town, draw: np.random.Generator) -> str:
    """kill -9 of the hub."""
    town.actors["hub"].signal(signal.SIGKILL)
    return "hub"


@fault
async def restart(town: Town, draw: np.random.Generator) -> str:
    """An orderly stop of anybody, which is started again."""
    name = _some(list(town.actors), draw)
    town.actors[name].signal(signal.SIGTERM)
    return name


@fault
async def restart_hub(town: Town, draw: np.random.Generator) -> str:
    """An orderly restart of the hub."""
    town.actors["hub"].signal(signal.SIGTERM)
    return "hub"


@fault
async def freeze(town: Town, draw: np.random.Generator) -> str:
    """SIGSTOP and, later, SIGCONT: within a lease, or long beyond it."""
    actor = town.actors[_some(list(town.actors), draw)]
    actor.signal(signal.SIGSTOP)
    await asyncio.sleep(float(np.exp(draw.uniform(np.log(0.1), np.log(8.0)))))
    actor.signal(signal.SIGCONT)
    return actor.name


@fault
async def cut(town: Town, draw: np.random.Generator) -> str:
    """A member's connections break, and no new ones come about."""
    name = _some(town.members, draw)
    town.lines[name].cut()
    await asyncio.sleep(draw.uniform(0.1, 5.0))
    town.lines[name].mend()
    return name


@fault
async def silence(town: Town, draw: np.random.Generator) -> str:
    """Nothing comes through any more, and nobody is told; sometimes for several at once."""
    names = [name for name in town.members if draw.random() < 0.3] or [_some(town.members, draw)]
    for name in names:
        town.lines[name].stall()
    await asyncio.sleep(draw.uniform(0.5, 7.0))
    for name in names:
        town.lines[name].mend()
    return " ".join(names)


@fault
async def delay(town: Town, draw: np.random.Generator) -> str:
    """A slow line."""
    name = _some(town.members, draw)
    town.lines[name].delay_s = draw.uniform(0.02, 0.5)
    await asyncio.sleep(draw.uniform(0.5, 5.0))
    town.lines[name].mend()
    return name


@fault
async def disk_full(town: Town, draw: np.random.Generator) -> str:
    """A member has no room on its disk."""
    return await _fill(town, _some(town.members, draw), draw)


@fault
async def disk_full_hub(town: Town, draw: np.random.Generator) -> str:
    """The hub has no room on its disk."""
    return await _fill(town, "hub", draw)


@fault
async def clock(town: Town, draw: np.random.Generator) -> str:
    """Somebody's wall clock jumps by an hour or by ten years, and back."""
    name, jump_s = _some(list(town.actors), draw), CLOCK_JUMPS_S[int(draw.integers(len(CLOCK_JUMPS_S)))]
    town.set_clock(name, jump_s)
    await asyncio.sleep(draw.uniform(0.5, 5.0))
    town.set_clock(name, 0.0)
    return f"{name} by {jump_s:+.0f} s"


async def _fill(town: Town, name: str, draw: np.random.Generator) -> str:
    actor = town.actors[name]
    actor.may_fail = True
    town.disks[name].fill(actor)
    await asyncio.sleep(draw.uniform(0.5, 5.0))
    town.disks[name].free(actor)
    await asyncio.sleep(1.0)
    actor.may_fail = False
    return name
