"""A node's data that come over time, over the real simulated world: also through a crash."""

import pytest

from kuberml.exchange.node import Node
from kuberml.exchange.place import Stage
from kuberml.worlds.simulated.faults import Fault
from tests.exchange.town import Town, data

STAGES = (Stage(0.0, data("12")), Stage(10.0, data("3")), Stage(25.5, data("4", part=1)))


async def watched(node: Node) -> list[tuple[float, tuple[str, ...], tuple[str, ...], int]]:
    """When each stage came, what was new, what there was then, and how many stages."""
    return [
        (node.clock.now_ns() / 1e9, stage.data.labels, node.data.labels, len(node.stages_so_far))
        async for stage in node.arriving()
    ]


def test_stages_come_when_they_should_and_stay() -> None:
    town = Town("a", a={"stages": STAGES})
    assert town.run(a=watched)["a"] == [
        (0.0, ("1", "2"), ("1", "2"), 1),
        (10.0, ("3",), ("1", "2", "3"), 2),
        (25.5, ("4",), ("1", "2", "3", "4"), 3),
    ]
    (noted,) = town.notes["a"].of("streaming")
    assert noted == {"began_ns": 0, "stages": 3}


def test_data_without_stages_are_one_stage_from_the_beginning() -> None:
    whole = data("12")

    async def main(node: Node) -> tuple[bool, list[Stage], tuple[Stage, ...]]:
        return node.data is whole, [stage async for stage in node.arriving()], node.stages_so_far

    town = Town("a", a={"data": whole})
    one = Stage(0.0, whole)
    assert town.run(a=main)["a"] == (True, [one], (one,))
    assert not town.notes["a"].of("streaming"), "and nothing is remembered or recorded of it"
    assert "began_ns" not in town.world.store("a").memory()  # type: ignore[arg-type]


def test_who_has_no_data_has_no_stages() -> None:
    async def main(node: Node) -> list[Stage]:
        with pytest.raises(AssertionError, match="node a has no data"):
            _ = node.data
        return [stage async for stage in node.arriving()]

    assert Town("a").run(a=main)["a"] == []


def test_before_the_first_stage_there_is_nothing() -> None:
    async def main(node: Node) -> tuple[int, int, dict[str, int], int]:
        before = (len(node.data.train), len(node.data.heldout), node.data.counts)
        await node.sleep(5)
        return (*before, len(node.data.train))

    assert Town("a", a={"stages": (Stage(5.0, data("12")),)}).run(a=main)["a"] == (0, 0, {}, 28)


def test_after_a_crash_time_goes_on_and_what_is_past_comes_at_once() -> None:
    """It is down from 12 s on and back at 20 s: stages count from its first beginning."""
    seen: list[list[tuple[float, tuple[str, ...], tuple[str, ...], int]]] = []

    async def main(node: Node) -> None:
        seen.append([])
        async for stage in node.arriving():
            seen[-1].append((node.clock.now_ns() / 1e9, stage.data.labels, node.data.labels, len(node.stages_so_far)))

    town = Town("a", faults=[Fault(12.0, "crash", ("a",), until_s=20.0)], a={"stages": STAGES})  # type: ignore[arg-type]
    town.run(a=main)
    assert [time_s for time_s, *_ in seen[0]] == [0.0, 10.0]
    assert [(time_s, new) for time_s, new, *_ in seen[1]] == [(20.0, ("1", "2")), (20.0, ("3",)), (25.5, ("4",))]
    assert seen[1][0][2] == ("1", "2", "3"), "all that has come is there at once"
