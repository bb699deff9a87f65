"""One fault of each kind in a small town, and the law after it: a failure names its kind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from kuberml.core.rng import rng
from tests.faults.kinds import FAULTS
from tests.faults.law import Law
from tests.faults.soak import START_S
from tests.faults.town import Town, town

Here = tuple[asyncio.Runner, Town, Law]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    """One town for all kinds: its processes take longer to start than most faults to heal."""
    with asyncio.Runner() as runner:
        living = town(tmp_path_factory.mktemp("town"), publishers=2, receivers=1)
        made = runner.run(living.__aenter__())
        try:
            law = runner.run(_law(made))
            runner.run(law.settle(START_S))
            yield runner, made, law
        finally:
            runner.run(living.__aexit__(None, None, None))
    assert [crash for actor in made.actors.values() for crash in actor.crashes] == []


async def _law(made: Town) -> Law:
    return Law(made)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAULTS)
def test_the_law_holds_after(kind: str, here: Here) -> None:
    runner, made, law = here
    accepted = len(made.accepted())
    runner.run(FAULTS[kind](made, rng(5, "kinds", kind)))
    assert runner.run(law.settle()) > 0
    assert len(made.accepted()) >= accepted > 0
