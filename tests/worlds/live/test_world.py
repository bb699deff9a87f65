"""A hub and its members, as a user's nodes see them: publish, find, fetch; restarts; the hub away."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from kuberml.core import canonical
from kuberml.core.errors import ConfigError, RemoteError, Unreachable
from kuberml.exchange.node import Node
from kuberml.exchange.place import Place
from kuberml.knowledge.kinds.weights import Weights
from kuberml.knowledge.want import Want
from kuberml.worlds.live.names import HUB
from kuberml.worlds.live.welcome import Hello
from kuberml.worlds.live.world import LiveWorld
from tests.worlds.live.town import hub, keys_of, member

PATIENCE_S = 10.0


def node(world: LiveWorld) -> Node:
    place = Place(
        clock=world.clock, transport=world.transport, compute=world.compute, store=world.store, recorder=world.recorder(),
        role="peer", task="digits", keys=keys_of(world.transport.node), seed=0, hub=world.hub,
    )  # fmt: skip
    return Node(place)


def weights(count: int = 1000, level: float = 1.0) -> Weights:
    return Weights({"w": np.full(count, level, np.float32)}, {"3": 10})


async def until(condition: object, timeout_s: float = PATIENCE_S) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # type: ignore[operator]  # noqa: ASYNC110
            await asyncio.sleep(0.02)


WANT = Want(task="digits", labels_ppm={"3": 1_000_000})


@pytest.mark.parametrize("serve_http", [None, "127.0.0.1:0"], ids=["behind NAT", "with a door"])
def test_what_one_publishes_another_finds_and_fetches(tmp_path: Path, serve_http: str | None) -> None:
    async def main() -> None:
        async with (
            hub(tmp_path / "hub") as at,
            member(at, "a", tmp_path, serve_http=serve_http) as world_a,
            member(at, "b", tmp_path) as world_b,
        ):
            a, b = node(world_a), node(world_b)
            await world_a.enter(PATIENCE_S)
            await world_b.enter(PATIENCE_S)
            published = await a.publish(weights(), slot="model", version=0)
            found = await b.find(WANT)
            assert [offer.signed.digest for offer in found] == [published.signed.digest]
            got = await b.fetch(found[0])
            assert np.array_equal(got.tensors["w"], weights().tensors["w"])
            assert world_b.transport.alive("peer") == ("a",)
            assert world_b.transport.alive("hub") == (HUB,)

    asyncio.run(main())


def test_a_hub_remembers_little_of_what_a_newcomer_says(tmp_path: Path) -> None:
    async def main() -> None:
        async with hub(tmp_path / "hub") as at, member(at, "a", tmp_path) as world:
            await world.enter(PATIENCE_S)
            for large in (Hello("peer", software="x" * 100_000), Hello("peer", tuple(f"http://{k}" for k in range(10_000)))):
                with pytest.raises(RemoteError, match="a hello of"):
                    await world.transport.ask(HUB, "hello", canonical.encode(large), timeout_s=PATIENCE_S)

    asyncio.run(main())


def test_the_hub_keeps_a_copy_so_the_publisher_may_leave(tmp_path: Path) -> None:
    async def main() -> None:
        async with hub(tmp_path / "hub") as at:
            async with member(at, "a", tmp_path) as world_a:
                await world_a.enter(PATIENCE_S)
                offer = await node(world_a).publish(weights(500_000), slot="model", version=0)
                kept = await world_a.transport.ask(HUB, "keep", offer.signed.digest.encode(), timeout_s=PATIENCE_S)
                assert kept == b"kept"
            async with member(at, "b", tmp_path) as world_b:
                await world_b.enter(PATIENCE_S)
                b = node(world_b)
                (found,) = await b.find(WANT)
                assert HUB in found.holders
                assert len((await b.fetch(found)).tensors["w"]) == 500_000

    asyncio.run(main())


def test_what_is_published_while_the_hub_is_away_reaches_it_when_it_is_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with hub(tmp_path / "hub") as at:
            address = at.address
            listen = {"listen": address, "http": at.http_url.removeprefix("http://")}
            async with member(at, "b", tmp_path) as world_b:
                await world_b.enter(PATIENCE_S)
        async with member(address, "a", tmp_path) as world_a:
            a = node(world_a)
            with pytest.raises(Unreachable, match="no hub"):
                await world_a.enter(0.2)
            await a.publish(weights(), slot="model", version=0)
            assert world_a.outbox.due == 1
            async with hub(tmp_path / "hub", **listen) as again, member(again, "b", tmp_path) as world_b:
                await world_b.enter(PATIENCE_S)
                await until(lambda: world_a.outbox.due == 0)
                assert len(await node(world_b).find(WANT)) == 1

    asyncio.run(main())


def test_a_hub_that_is_started_again_knows_what_it_knew(tmp_path: Path) -> None:
    async def main() -> None:
        async with hub(tmp_path / "hub") as at, member(at, "a", tmp_path) as world_a:
            await world_a.enter(PATIENCE_S)
            offer = await node(world_a).publish(weights(), slot="model", version=0)
            await world_a.transport.ask(HUB, "keep", offer.signed.digest.encode(), timeout_s=PATIENCE_S)
        async with hub(tmp_path / "hub") as again, member(again, "b", tmp_path) as world_b:
            await world_b.enter(PATIENCE_S)
            b = node(world_b)
            (found,) = await b.find(WANT)
            assert np.array_equal((await b.fetch(found)).tensors["w"], weights().tensors["w"])

    asyncio.run(main())


def test_a_name_stays_with_the_key_that_took_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with hub(tmp_path / "hub") as at, member(at, "a", tmp_path) as first:
            await first.enter(PATIENCE_S)
            async with member(at, "a", tmp_path / "other", keys=keys_of("thief")) as thief:
                with pytest.raises(RemoteError, match="belongs to another key"):
                    await thief.enter(1.0)

    asyncio.run(main())


def test_without_the_hub_neighbours_with_doors_go_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with hub(tmp_path / "hub") as at:
            a_world = member(at, "a", tmp_path, serve_http="127.0.0.1:0")
            b_world = member(at, "b", tmp_path)
            world_a, world_b = await a_world.__aenter__(), await b_world.__aenter__()
            await world_a.enter(PATIENCE_S)
            await world_b.enter(PATIENCE_S)
            a, b = node(world_a), node(world_b)
            await a.publish(weights(), slot="model", version=0)
            assert len(await b.latest(["a"], slot="model", timeout_s=PATIENCE_S)) == 1
            await world_b.transport.asking.door(a.id, PATIENCE_S)
        await a.publish(weights(level=2.0), slot="model", version=1)
        (newest,) = await b.latest(["a"], slot="model", timeout_s=PATIENCE_S, at_least=1)
        assert (await b.fetch(newest)).tensors["w"][0] == 2.0
        await b_world.__aexit__(None, None, None)
        await a_world.__aexit__(None, None, None)

    asyncio.run(main())


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    async def main() -> None:
        async with hub(tmp_path / "hub") as at:
            with pytest.raises(ConfigError, match=f"{at.address}.*give another"):
                async with hub(tmp_path / "other", listen=at.address):
                    pass

    asyncio.run(main())
