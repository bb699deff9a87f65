"""Which way a request takes: straight to a door over which something came, else over the router."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from kuberml.core.errors import RemoteError
from kuberml.core.ids import NodeId
from kuberml.worlds.live.asking import Door
from kuberml.worlds.live.names import HUB
from kuberml.worlds.live.world import LiveWorld
from tests.worlds.live.test_world import PATIENCE_S
from tests.worlds.live.town import hub, member

BLOB = b"what anna knows" * 1000
OURS = ("echo", "refuse")
"""Requests of these tests; members ask the hub other things meanwhile."""


class Counted:
    """How a member's requests went."""

    def __init__(self, world: LiveWorld) -> None:
        self.asking, self.router, self.straight = world.transport.asking, 0, 0
        post, link = self.asking.post, self.asking._link
        assert post is not None
        get = link.get

        async def posted(url: str, name: str, envelope: bytes, timeout_s: float) -> bytes:
            self.straight += name in OURS
            return await post(url, name, envelope, timeout_s)

        async def got(key: str, envelope: bytes, timeout_s: float) -> bytes | None:
            self.router += key.rpartition("/")[2] in OURS
            return await get(key, envelope, timeout_s)

        self.asking.post, link.get = posted, got  # type: ignore[method-assign]

    def since(self) -> tuple[int, int]:
        """(over the router, straight) since this was last asked."""
        counts, self.router, self.straight = (self.router, self.straight), 0, 0
        return counts


async def echo(asker: NodeId, body: bytes) -> bytes:
    return body[::-1]


async def refuse(asker: NodeId, body: bytes) -> bytes:
    raise RemoteError("not today")


def test_who_was_read_from_is_asked_straight_and_over_the_router_again_when_that_fails(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            hub(tmp_path / "hub") as at,
            member(at, "anna", tmp_path, serve_http="127.0.0.1:0") as anna,
            member(at, "boris", tmp_path) as boris,
        ):
            await anna.enter(PATIENCE_S)
            await boris.enter(PATIENCE_S)
            anna.transport.serve("echo", echo)
            anna.transport.serve("refuse", refuse)
            digest, there, count = anna.store.put(BLOB), NodeId("anna"), Counted(boris)

            async def asked() -> bytes:
                return await boris.transport.ask(there, "echo", b"abc", timeout_s=5)

            assert await asked() == b"cba"
            assert count.since() == (1, 0)
            assert await boris.transport.read(there, digest, 0, 100, timeout_s=5) == BLOB[:100]
            count.since()
            assert await asked() == b"cba"
            assert count.since() == (0, 1)
            with pytest.raises(RemoteError, match="not today"):
                await boris.transport.ask(there, "refuse", b"", timeout_s=5)
            assert count.since() == (0, 1), "a refusal is an answer"

            anna.transport.answering._new_epoch()
            assert await asked() == b"cba"
            assert count.since()[0] == 0, "a new epoch is learned at the door, too"
            while (seen := boris.transport.here.find(there)) is None or seen.epoch != anna.transport.voice.epoch:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

            boris.transport.asking.meet(there, Door(urls=("http://127.0.0.1:9",)))
            boris.transport.asking.ways.came("http://127.0.0.1:9")
            assert await asked() == b"cba"
            assert count.since() == (1, 1), "nobody is behind that door: over the router"
            assert await asked() == b"cba"
            assert count.since() == (1, 0), "and it is not tried again"

    asyncio.run(main())


def test_a_web_server_in_front_of_a_vault_takes_no_requests_and_need_not(tmp_path: Path) -> None:
    async def main() -> None:
        app = web.Application()
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        try:
            front = f"http://127.0.0.1:{port}"
            async with hub(tmp_path / "hub", advertise_http=front) as at, member(at, "boris", tmp_path) as boris:
                await boris.enter(PATIENCE_S)
                at.transport.serve("echo", echo)
                boris.transport.asking.ways.came(front)
                count = Counted(boris)
                for expected in ((1, 1), (1, 0)):
                    assert await boris.transport.ask(HUB, "echo", b"abc", timeout_s=5) == b"cba"
                    assert count.since() == expected
        finally:
            await runner.cleanup()

    asyncio.run(main())
