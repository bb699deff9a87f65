"""A rolling upgrade: members and hubs of the next version, which say more, among those of this one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from kuberml.core import canonical
from kuberml.core.errors import RemoteError
from kuberml.core.ids import NodeId
from kuberml.worlds.live import names
from kuberml.worlds.live.asking import Door
from kuberml.worlds.live.names import HUB
from kuberml.worlds.live.welcome import Hello, Welcome
from tests.worlds.live.town import hub, member

PATIENCE_S = 10.0


class NextHello(Hello, frozen=True):
    """What a member of the next version says."""

    accelerator: str = "tpu"
    languages: tuple[str, ...] = ("en",)


class NextWelcome(Welcome, frozen=True):
    """What a hub of the next version says."""

    regions: tuple[str, ...] = ("eu",)


class NextDoor(Door, frozen=True):
    """What a door of the next version says."""

    quic: str = "udp/127.0.0.1:9"


def test_a_member_of_the_next_version_at_todays_hub(tmp_path: Path) -> None:
    async def main() -> None:
        async with hub(tmp_path / "hub") as at, member(at, "next", tmp_path) as world:
            await world.enter(PATIENCE_S)
            hello = canonical.encode(NextHello(role="peer", protocol=names.PROTOCOL + 1))
            answer = await world.transport.ask(HUB, "hello", hello, timeout_s=PATIENCE_S)
            welcome = msgspec.convert(canonical.decode(answer), NextWelcome, builtin_types=(bytes,))
            assert welcome.protocol == names.PROTOCOL
            assert at.members[NodeId("next")].protocol == names.PROTOCOL + 1
            with pytest.raises(RemoteError, match="serves no 'teleport'"):
                await world.transport.ask(HUB, "teleport", b"", timeout_s=PATIENCE_S)
            assert await world.transport.ask(HUB, "hello", hello, timeout_s=PATIENCE_S)

    asyncio.run(main())


def test_todays_member_at_a_hub_of_the_next_version(tmp_path: Path) -> None:
    async def main() -> None:
        async with hub(tmp_path / "hub") as at:

            async def next_hello(asker: NodeId, body: bytes) -> bytes:
                return canonical.encode(NextWelcome(at.transport.voice.key, (at.http_url,), protocol=names.PROTOCOL + 1))

            async def next_door(asker: NodeId, body: bytes) -> bytes:
                return canonical.encode(NextDoor(urls=(at.http_url,), protocol=names.PROTOCOL + 1))

            at.transport.serve("hello", next_hello)
            at.transport.serve("door", next_door)
            async with member(at, "today", tmp_path) as world:
                welcome = await world.enter(PATIENCE_S)
                assert welcome.protocol == names.PROTOCOL + 1
                assert welcome.urls == (at.http_url,)
                door = await world.transport.asking.door(HUB, PATIENCE_S)
                assert door.urls == (at.http_url,)

    asyncio.run(main())
