"""Reports: what a node tells of itself, what it does where nobody listens, and the way from a real node to a hub's page."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.core.ids import NodeId, digest_of
from kuberml.exchange.node import Node
from kuberml.worlds.live import reports as module
from kuberml.worlds.live.reports import Happening, Reporter, read_report
from tests.exchange.town import Notes
from tests.worlds.live.test_world import PATIENCE_S, WANT, node, until, weights
from tests.worlds.live.town import hub, member

CARD, HUB = digest_of(b"card"), NodeId("hub")


class Line:
    """A transport that only asks; what comes of it is the test's to say."""

    def __init__(self, outcome: Exception | None = None) -> None:
        self.outcome, self.bodies = outcome, list[bytes]()

    async def ask(self, to: NodeId, name: str, body: bytes, *, timeout_s: float) -> bytes:
        assert (to, name) == (HUB, "report")
        self.bodies.append(body)
        if self.outcome is not None:
            raise self.outcome
        return b""

    @property
    def told(self) -> list[Happening]:
        return [one for body in self.bodies for one in read_report(body).happenings]


def reporter(line: Line, **options: Any) -> tuple[Reporter, Notes]:
    notes = Notes()
    return Reporter(notes, line, HUB, every_s=0.01, **options), notes  # type: ignore[arg-type]


def running(line: Line, body: Callable[[Reporter], Awaitable[None]], **options: Any) -> tuple[Reporter, Notes]:
    one, notes = reporter(line, **options)

    async def main() -> None:
        task = asyncio.ensure_future(one.run())
        await body(one)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())
    return one, notes


def test_everything_is_recorded_and_a_few_events_are_told() -> None:
    line = Line()

    async def body(one: Reporter) -> None:
        one.record("job", function="f")
        one.record("absorbed", card=CARD, why="w" * 500, labels={"secret": 3}, model=b"bytes", size_bytes=7)
        one.record("deployed", model="m" * 64, accuracy_ppm=5)
        await until(lambda: len(line.told) == 2)

    _, notes = running(line, body)
    assert [event for event, _ in notes.all] == ["job", "absorbed", "deployed"]
    assert notes.all[1][1]["labels"] == {"secret": 3}
    assert line.told == [
        Happening("absorbed", card=CARD, why="w" * module.WHY_CHARS, size_bytes=7), Happening("deployed", accuracy_ppm=5),
    ]  # fmt: skip


def test_of_a_delivery_only_the_newest_is_told_and_nothing_is_recorded() -> None:
    line = Line()

    async def body(one: Reporter) -> None:
        for done in range(1000):
            one.progress(CARD, "a", done, 1000)
        await until(lambda: line.told)
        one.progress(CARD, "a", 1000, 1000)
        one.record("fetched", card=CARD, holder="a")  # it has ended: nothing moves any more
        await until(lambda: len(line.told) == 2)

    _, notes = running(line, body)
    assert [(one.what, one.done_bytes) for one in line.told] == [("delivering", 999), ("fetched", 0)]
    assert [event for event, _ in notes.all] == ["fetched"]


def test_while_the_hub_is_away_the_newest_wait_and_the_oldest_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING", 10)
    line = Line(Unreachable("away"))

    async def body(one: Reporter) -> None:
        for i in range(5):
            one.record("refused", card=CARD, why=str(i))
        await until(lambda: len(line.bodies) >= 2)  # tried, and tried again
        for i in range(5, 25):
            one.record("refused", card=CARD, why=str(i))
        line.outcome, line.bodies = None, []
        await until(lambda: len(line.told) >= 10)

    one, notes = running(line, body)
    assert [happening.why for happening in line.told] == [str(i) for i in range(15, 25)]
    assert one.dropped == 15
    assert len(notes.all) == 25


def test_a_hub_that_refuses_is_left_alone() -> None:
    line = Line(RemoteError("no right to publish"))

    async def body(one: Reporter) -> None:
        one.record("refused", card=CARD)
        await until(lambda: line.bodies)
        one.record("refused", card=CARD)
        await asyncio.sleep(0.1)

    one, _ = running(line, body)
    assert (len(line.bodies), one.dropped) == (1, 1)


def test_switched_off_it_only_records() -> None:
    line = Line()

    async def body(one: Reporter) -> None:
        one.record("absorbed", card=CARD)
        one.progress(CARD, "a", 1, 2)
        await asyncio.sleep(0.05)
        await one.flush()

    _, notes = running(line, body, on=False)
    assert (line.bodies, len(notes.all)) == ([], 1)


def test_a_real_node_shows_on_a_real_hub_s_page(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            hub(tmp_path / "hub") as at,
            member(at, "a", tmp_path) as world_a,
            member(at, "b", tmp_path) as world_b,
            member(at, "quiet", tmp_path, reports=False) as world_quiet,
            aiohttp.ClientSession() as client,
        ):
            for world in (world_a, world_b, world_quiet):
                await world.enter(PATIENCE_S)
            published = await node(world_a).publish(weights(), slot="model", version=0)
            for world in (world_b, world_quiet):
                (offer,) = await node(world).find(WANT)
                await node(world).fetch(offer)
                world.recorder().record("absorbed", card=offer.signed.digest, why="better")
            scene = at.scene
            await until(lambda: scene.lessons and scene.counts["deliveries done"])
            async with client.get(f"{at.http_url}/v1/scene") as answer:
                shown = await answer.json()
            assert {one["node"]: one["role"] for one in shown["people"]} == {
                "hub": "hub", "a": "peer", "b": "peer", "quiet": "peer",
            }  # fmt: skip
            knows = {one["node"]: one["knows"] for one in shown["people"]}
            assert (knows["a"], knows["b"], knows["quiet"]) == ([1], [2], [0])
            assert shown["lessons"] == [{"from": "a", "to": "b", "cards": 1}]
            assert shown["trials"][0]["card"] == published.signed.digest[:12]
            assert (await (await client.get(at.http_url)).text()).startswith("<!doctype html>")
            async with client.get(f"{at.http_url}/metrics") as answer:
                text = await answer.text()
            assert 'kuberml_members{role="peer"} 3' in text
            assert "\nkuberml_cards 1\n" in text
            assert 'kuberml_requests_total{name="announce",outcome="ok"} 1' in text

    asyncio.run(main())


def test_a_delivery_is_seen_while_it_runs(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            hub(tmp_path / "hub") as at,
            member(at, "a", tmp_path, serve_http="127.0.0.1:0") as world_a,
            member(at, "b", tmp_path, limit_bytes_s=6_000_000) as world_b,
        ):
            for world in (world_a, world_b):
                await world.enter(PATIENCE_S)
            published = await node(world_a).publish(weights(3_000_000), slot="model", version=0)
            receiver = Node(dataclasses.replace(node(world_b).place, watch=world_b.recorder().watching))
            (offer,) = await receiver.find(WANT)
            seen: set[tuple[int, str]] = set()
            coming = asyncio.ensure_future(receiver.fetch(offer))
            place, size_bytes = (NodeId("b"), published.signed.digest), published.signed.card.size_bytes

            def ended() -> bool:
                found = at.scene.deliveries.get(place)
                if found is not None:
                    assert found.total_bytes == size_bytes
                    seen.add((found.done_bytes, found.state))
                return (size_bytes, "done") in seen

            await until(ended, 30)
            await coming
            under_way = [done for done, state in seen if state == "under way"]
            assert len(under_way) >= 2
            assert all(0 <= done <= size_bytes for done in under_way)

    asyncio.run(main())


def test_last_words_are_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with hub(tmp_path / "hub") as at:
            async with member(at, "a", tmp_path) as world:
                await world.enter(PATIENCE_S)
                await until(lambda: NodeId("a") in at.scene.people)
                world.recorder().record("deployed", accuracy_ppm=123_456)
            assert at.scene.people[NodeId("a")].accuracy_ppm == 123_456
            await until(lambda: not at.scene.people[NodeId("a")].here)

    asyncio.run(main())
