"""A crowd at work, in the real simulated world: who comes first is taken first, and nobody holds up the others."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from kuberml.core.errors import ConfigError
from kuberml.core.ids import NodeId
from kuberml.exchange.crowd import keep_busy
from kuberml.exchange.node import Node
from kuberml.worlds.simulated.faults import Fault
from tests.exchange.town import Town, stay

CROWD = ("a", "b", "c")
TAKES_S = {"a": 1.0, "b": 2.5, "c": 4.0}


def town(**more: Any) -> Town:
    return Town("me", *CROWD, roles=dict.fromkeys(CROWD, "client"), **more)


def everybody() -> dict[str, Any]:
    return dict.fromkeys(CROWD, stay)


async def taken(node: Node, work: Any, count: int, share: float = 1.0, rest_s: float = 5.0) -> list[tuple[float, str]]:
    """(When, of whom) the first results came."""
    await node.sleep(0.1)
    found = []
    async with aclosing(keep_busy(node, work, role="client", share=share, rest_s=rest_s)) as results:
        async for name, _ in results:
            found.append((round(node.clock.now_ns() / 1e9 - 0.1, 1), str(name)))
            if len(found) == count:
                break
    return found


def test_results_come_as_they_are_done_and_who_is_done_begins_again() -> None:
    async def me(node: Node) -> Any:
        async def work(name: NodeId) -> str:
            await node.sleep(TAKES_S[name])
            return name

        return await taken(node, work, 8)

    assert town().run(me=me, **everybody())["me"] == [
        (1.0, "a"), (2.0, "a"), (2.5, "b"), (3.0, "a"), (4.0, "c"), (4.0, "a"), (5.0, "b"), (5.0, "a"),
    ]  # fmt: skip


def test_only_a_share_works_at_a_time_and_each_at_one_thing() -> None:
    async def me(node: Node) -> Any:
        now: set[str] = set()
        counts: list[int] = []

        async def work(name: NodeId) -> str:
            assert name not in now
            now.add(name)
            counts.append(len(now))
            await node.sleep(TAKES_S[name])
            now.discard(name)
            return name

        return await taken(node, work, 30, share=0.67), counts

    found, counts = town().run(me=me, **everybody())["me"]
    assert max(counts) == 2
    assert {name for _, name in found} == set(CROWD)


def test_who_comes_to_nothing_rests_longer_each_time_and_newcomers_are_found() -> None:
    async def me(node: Node) -> Any:
        tries: list[float] = []

        async def work(name: NodeId) -> str | None:
            if name == "a":
                tries.append(round(node.clock.now_ns() / 1e9 - 0.1, 1))
                return None
            await node.sleep(TAKES_S[name])
            return name

        return await taken(node, work, 20, rest_s=3.0), tries

    faults = [Fault(at_s=6.5, what="join", nodes=("b",))]
    found, tries = town(faults=faults).run(me=me, **everybody())["me"]
    assert tries[:4] == [0.0, 3.0, 9.0, 21.0]
    first_s = {name: when_s for when_s, name in reversed(found)}
    assert first_s == {
        "b": pytest.approx(8 + TAKES_S["b"], abs=1.6),
        "c": TAKES_S["c"],
    }


def test_what_the_work_raises_is_raised_and_the_rest_is_cancelled() -> None:
    async def me(node: Node) -> Any:
        cancelled: list[str] = []

        async def work(name: NodeId) -> str:
            if name == "a":
                raise ConfigError("not so")
            try:
                await node.sleep(1000)
            except asyncio.CancelledError:
                cancelled.append(name)
                raise
            return name

        with pytest.raises(ConfigError, match="not so"):
            await taken(node, work, 1)
        await node.sleep(1)
        return sorted(cancelled), node.clock.now_ns() / 1e9

    cancelled, when_s = town().run(me=me, **everybody())["me"]
    assert cancelled == ["b", "c"]
    assert when_s < 10
