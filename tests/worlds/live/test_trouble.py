"""Trouble that passes: a hub whose disk is full for a while, a holder that is away, an answer that does not come."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from kuberml.core.errors import Unreachable
from kuberml.core.ids import NodeId
from kuberml.core.seam import Handler
from kuberml.worlds.live import world as live_world
from kuberml.worlds.live.hub import keeper
from kuberml.worlds.live.hub.process import HubProcess
from kuberml.worlds.live.names import HUB
from tests.faults.proxy import Line, Proxy
from tests.worlds.live.test_world import PATIENCE_S, WANT, node, until, weights
from tests.worlds.live.town import hub, member


def full_for(at: HubProcess, name: str, times: int) -> None:
    """The hub's disk refuses what comes under this name, so many times."""
    handlers, left = at.transport.answering.handlers, times
    whole: Handler = handlers[name]

    async def refusing(asker: NodeId, body: bytes) -> bytes:
        nonlocal left
        left -= 1
        if left >= 0:
            raise OSError(errno.ENOSPC, "No space left on device", "/var/lib/kuberml/catalog.sqlite")
        return await whole(asker, body)

    at.transport.serve(name, refusing)


def test_what_a_full_hub_could_not_take_is_no_refusal_and_is_said_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_world, "PUSH_S", 0.1)

    async def main() -> None:
        async with hub(tmp_path / "hub") as at, member(at, "a", tmp_path) as world:
            await world.enter(PATIENCE_S)
            full_for(at, "announce", 3)
            offer = await node(world).publish(weights(), slot="model", version=0)
            assert at.catalog.card(offer.signed.digest) is None
            assert world.outbox.due == 1
            await until(lambda: world.outbox.due == 0)
            assert at.catalog.card(offer.signed.digest) is not None

    asyncio.run(main())


def test_a_full_disk_is_nobodys_fault_and_its_path_stays_at_home(tmp_path: Path) -> None:
    async def main() -> None:
        async with hub(tmp_path / "hub") as at, member(at, "a", tmp_path) as world:
            await world.enter(PATIENCE_S)
            full_for(at, "find", 1)
            with pytest.raises(Unreachable, match="No space left") as caught:
                await world.transport.ask(HUB, "find", b"", timeout_s=PATIENCE_S)
            assert "/var/lib" not in str(caught.value)

    asyncio.run(main())


def test_a_member_whose_disk_is_full_when_the_hub_comes_still_joins_and_catches_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_world, "PUSH_S", 0.1)

    async def main() -> None:
        async with hub(tmp_path / "hub") as at:
            address, listen = at.address, {"listen": at.address, "http": at.http_url.removeprefix("http://")}
        async with member(address, "a", tmp_path) as world:
            offer = await node(world).publish(weights(), slot="model", version=0)
            writes, remember = 0, world.store.remember

            def refusing(entries: object) -> None:
                nonlocal writes
                writes += 1
                if writes <= 2:
                    raise OSError(errno.ENOSPC, "No space left on device")
                remember(entries)  # type: ignore[arg-type]

            monkeypatch.setattr(world.store, "remember", refusing)
            async with hub(tmp_path / "hub", **listen) as again:
                await world.enter(PATIENCE_S)
                await until(lambda: world.outbox.due == 0)
                assert again.catalog.card(offer.signed.digest) is not None

    asyncio.run(main())


def test_a_copy_that_could_not_be_written_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "AGAIN_S", (0.1, 1.0))

    async def main() -> None:
        async with hub(tmp_path / "hub") as at, member(at, "a", tmp_path) as world:
            await world.enter(PATIENCE_S)
            writes, put_card = 0, at.store.put_card

            def refusing(*card: object) -> None:
                nonlocal writes
                writes += 1
                if writes <= 10:  # more often than any number of tries that a keeper might think enough
                    raise OSError(errno.ENOSPC, "No space left on device")
                put_card(*card)  # type: ignore[arg-type]

            monkeypatch.setattr(at.store, "put_card", refusing)
            offer = await node(world).publish(weights(), slot="model", version=0)
            await until(lambda: HUB in at.catalog.holders(offer.signed.digest))
            assert writes == 11

    asyncio.run(main())


def test_a_hub_that_was_killed_before_it_wrote_down_its_copy_is_its_holder_after_the_next_start(tmp_path: Path) -> None:
    async def main() -> None:
        async with hub(tmp_path / "hub") as at, member(at, "a", tmp_path) as world:
            await world.enter(PATIENCE_S)
            offer = await node(world).publish(weights(), slot="model", version=0)
            digest = offer.signed.digest
            await world.transport.ask(HUB, "keep", digest.encode(), timeout_s=PATIENCE_S)
            at.catalog.drop_holder(HUB, digest)
            at.store.delete_card(digest)
        async with hub(tmp_path / "hub") as again:  # and the author never comes back
            await until(lambda: HUB in again.catalog.holders(digest))
            again.store.sweep()
            assert again.store.size_bytes(offer.signed.card.blobs[0].digest) is not None

    asyncio.run(main())


def test_keep_says_not_yet_instead_of_holding_its_asker_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "ANSWER_S", 0.2)

    async def main() -> None:
        async with hub(tmp_path / "hub") as at, member(at, "a", tmp_path) as world:
            await world.enter(PATIENCE_S)
            monkeypatch.setattr(world.store, "read", _nothing)
            offer = await node(world).publish(weights(), slot="model", version=0)
            asking = [world.transport.ask(HUB, "keep", offer.signed.digest.encode(), timeout_s=PATIENCE_S) for _ in range(70)]
            said = await asyncio.gather(*asking, return_exceptions=True)
            assert {type(one) for one in said} == {Unreachable}
            assert await node(world).find(WANT) == []  # and it still answers this member

    asyncio.run(main())


def test_what_was_learned_long_ago_by_a_wrong_clock_and_is_announced_now_is_new(tmp_path: Path) -> None:
    async def main() -> None:
        async with hub(tmp_path / "hub") as at, member(at, "a", tmp_path) as world_a, member(at, "b", tmp_path) as world_b:
            await world_a.enter(PATIENCE_S)
            await world_b.enter(PATIENCE_S)
            a, b = node(world_a), node(world_b)
            await a.publish(weights(), slot="now", version=0)
            found, since = await b.find_new(WANT, 0)
            assert len(found) == 1
            assert await b.find_new(WANT, since) == ([], since)
            await a.publish(weights(level=2.0), slot="ten years ago", version=0, learned_at_ms=a.now_ms - 10 * 365 * 86_400_000)
            found, upto = await b.find_new(WANT, since)
            assert [offer.signed.card.slot for offer in found] == ["ten years ago"]
            assert upto > since
        listen = {"listen": at.address, "http": at.http_url.removeprefix("http://")}
        async with hub(tmp_path / "another", **listen) as anew, member(anew, "a", tmp_path) as world_a:
            await world_a.enter(PATIENCE_S)  # its outbox tells the hub that has lost everything
            async with member(anew, "b", tmp_path) as world_b:
                await world_b.enter(PATIENCE_S)
                found, _ = await node(world_b).find_new(WANT, upto)
                assert {offer.signed.card.slot for offer in found} == {"now", "ten years ago"}

    asyncio.run(main())


@pytest.mark.parametrize("how", ["cut", "stall"])
def test_a_question_under_way_when_the_line_breaks_is_put_again_at_once(how: str, tmp_path: Path) -> None:
    async def main() -> float:
        asked = asyncio.Event()

        async def once_never(asker: NodeId, body: bytes) -> bytes:
            if not asked.is_set():
                asked.set()
                await asyncio.sleep(3600)
            return body

        line, loop = Line(), asyncio.get_running_loop()
        async with hub(tmp_path / "hub") as at:
            proxy = Proxy(at.endpoint.port, lambda port: line)
            await proxy.open()
            async with member(f"127.0.0.1:{proxy.port}", "a", tmp_path) as world:
                await world.enter(PATIENCE_S)
                at.transport.serve("echo", once_never)
                asking = asyncio.ensure_future(world.transport.ask(HUB, "echo", b"?", timeout_s=60.0))
                await asked.wait()
                began_s = loop.time()
                getattr(line, how)()
                await until(lambda: world.transport.here.find(HUB) is None)
                line.mend()
                assert await asking == b"?"
                took_s = loop.time() - began_s
            await proxy.close()
        return took_s

    assert asyncio.run(main()) < 20  # not the 60 s of its patience


def _nothing(*asked: object) -> bytes:
    raise KeyError(asked)
