"""A real partition: each process in a network namespace of its own, and its cable pulled while others are killed.

No connection is reset by that: each side must find out by silence.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.faults.law import Law
from tests.faults.networks import Namespaces, why_no_namespaces
from tests.faults.soak import START_S
from tests.faults.town import town

PULLED_S = 4.0
"""Twice a lease: the router has given the member up."""


@pytest.mark.slow
@pytest.mark.skipif(bool(why_no_namespaces()), reason=why_no_namespaces() or "they can be made")
def test_pulled_cables_heal_by_themselves_even_if_the_other_side_was_killed_meanwhile(tmp_path: Path) -> None:
    async def main() -> list[float]:
        async with town(tmp_path / "town", publishers=2, receivers=2, lay=Namespaces) as here:
            law = Law(here)
            took_s = [await law.settle(START_S)]
            for name in ("pub-0", "rec-0"):
                here.lines[name].stall()
            await asyncio.sleep(PULLED_S)
            for name in ("pub-0", "rec-0"):
                here.lines[name].mend()
            took_s.append(await law.settle())
            for name in here.members:
                here.lines[name].stall()
            here.actors["hub"].signal(signal.SIGKILL)  # its connections are half open at every member's end
            await asyncio.sleep(1.0)
            for name in here.members:
                here.lines[name].mend()
            took_s.append(await law.settle())
        assert [crash for actor in here.actors.values() for crash in actor.crashes] == []
        return took_s

    assert len(asyncio.run(main())) == 3
