"""What every `core.seam.Transport` does. An implementation's test subclasses `TransportContract` and says how to run nodes.

Timeouts and waits are fractions of a second: in virtual time they cost nothing, live they keep the suite quick.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

import pytest

from kuberml.core.errors import ConfigError, RemoteError, Unreachable
from kuberml.core.ids import NodeId, digest_of
from kuberml.core.seam import Store, Transport

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")
ROLES = {A: "peer", B: "peer", C: "hub"}
TIMEOUT_S = 2.0
SETTLE_S = 0.1


class Main(Protocol):
    """What one node does."""

    def __call__(self, door: Transport, store: Store) -> Coroutine[Any, Any, Any]:
        """Over its door and its store."""
        ...


async def echo(asker: NodeId, body: bytes) -> bytes:
    """Say who asks what."""
    return asker.encode() + b":" + body


def serving(**handlers: Any) -> Main:
    """A node that serves these and does nothing else."""

    async def main(door: Transport, store: Store) -> None:
        for name, handler in handlers.items():
            door.serve(name, handler)

    return main


class TransportContract:
    """Subclass, and override `run`."""

    def run(self, *mains: Main) -> list[Any]:
        """Run mains as nodes a, b, c (roles: ROLES) of a new world.

        All doors are open before the first main starts; nodes stay up until every main has ended; a main that raises
        fails the run with that error. Returns what they returned.
        """
        raise NotImplementedError

    def test_an_answer_comes_back_to_the_asker(self) -> None:
        async def main(door: Transport, store: Store) -> bytes:
            await asyncio.sleep(SETTLE_S)
            return await door.ask(B, "echo", b"hello", timeout_s=TIMEOUT_S)

        assert self.run(main, serving(echo=echo))[0] == b"a:hello"

    @pytest.mark.parametrize("size_bytes", [0, 1, 200_000])
    def test_bodies_of_any_size_arrive_as_they_were(self, size_bytes: int) -> None:
        async def main(door: Transport, store: Store) -> bytes:
            await asyncio.sleep(SETTLE_S)
            return await door.ask(B, "echo", b"\0" * size_bytes, timeout_s=TIMEOUT_S)

        assert self.run(main, serving(echo=echo))[0] == b"a:" + b"\0" * size_bytes

    def test_a_door_says_how_it_is_best_read_from(self) -> None:
        async def main(door: Transport, store: Store) -> tuple[int, int]:
            return door.reading.window_bytes, door.reading.parallel

        ((window_bytes, parallel),) = self.run(main)
        assert 1 << 16 <= window_bytes <= 1 << 24
        assert 1 <= parallel <= 64

    def test_a_door_knows_its_node(self) -> None:
        async def main(door: Transport, store: Store) -> NodeId:
            return door.node

        assert self.run(main, main, main) == [A, B, C]

    def test_many_questions_at_once_get_their_own_answers(self) -> None:
        async def main(door: Transport, store: Store) -> list[bytes]:
            await asyncio.sleep(SETTLE_S)
            asks = [door.ask(B, "echo", b"%d" % number, timeout_s=TIMEOUT_S) for number in range(50)]
            return await asyncio.gather(*asks)

        assert self.run(main, serving(echo=echo))[0] == [b"a:%d" % number for number in range(50)]

    def test_what_a_handler_refuses_is_the_peers_fault_at_the_asker(self) -> None:
        async def refuse(asker: NodeId, body: bytes) -> bytes:
            raise ConfigError("not for you")

        async def main(door: Transport, store: Store) -> None:
            await asyncio.sleep(SETTLE_S)
            with pytest.raises(RemoteError, match="not for you"):
                await door.ask(B, "fit", b"", timeout_s=TIMEOUT_S)

        self.run(main, serving(fit=refuse))

    def test_a_name_that_nobody_serves_is_refused(self) -> None:
        async def main(door: Transport, store: Store) -> None:
            await asyncio.sleep(SETTLE_S)
            with pytest.raises(RemoteError, match="fitt"):
                await door.ask(B, "fitt", b"", timeout_s=TIMEOUT_S)

        self.run(main, serving(fit=echo))

    def test_a_second_handler_replaces_the_first(self) -> None:
        async def shout(asker: NodeId, body: bytes) -> bytes:
            return body.upper()

        async def server(door: Transport, store: Store) -> None:
            door.serve("say", echo)
            door.serve("say", shout)

        async def main(door: Transport, store: Store) -> bytes:
            await asyncio.sleep(SETTLE_S)
            return await door.ask(B, "say", b"x", timeout_s=TIMEOUT_S)

        assert self.run(main, server)[0] == b"X"

    def test_no_answer_in_time_is_unreachable(self) -> None:
        async def never(asker: NodeId, body: bytes) -> bytes:
            await asyncio.sleep(3600)
            return b""

        async def main(door: Transport, store: Store) -> None:
            await asyncio.sleep(SETTLE_S)
            with pytest.raises(Unreachable):
                await door.ask(B, "never", b"", timeout_s=0.2)

        self.run(main, serving(never=never))

    def test_a_node_that_is_not_there_is_unreachable(self) -> None:
        async def main(door: Transport, store: Store) -> None:
            with pytest.raises(Unreachable):
                await door.ask(NodeId("nobody"), "echo", b"", timeout_s=0.2)
            with pytest.raises(Unreachable):
                await door.read(NodeId("nobody"), digest_of(b""), 0, 0, timeout_s=0.2)

        self.run(main)

    def test_announcements_reach_those_who_subscribe_and_nobody_else(self) -> None:
        async def listener(door: Transport, store: Store) -> tuple[NodeId, bytes]:
            async for item in door.subscribe("news"):
                return item
            raise AssertionError

        async def deaf(door: Transport, store: Store) -> bool:
            heard = asyncio.ensure_future(anext(door.subscribe("other")))
            await asyncio.sleep(3 * SETTLE_S)
            heard.cancel()
            return heard.done() and not heard.cancelled()

        async def speaker(door: Transport, store: Store) -> None:
            await asyncio.sleep(SETTLE_S)
            await door.announce("news", b"it works")

        assert self.run(listener, deaf, speaker) == [(C, b"it works"), False, None]

    def test_a_full_subscription_drops_the_oldest(self) -> None:
        async def listener(door: Transport, store: Store) -> list[bytes]:
            inbox = door.subscribe("news", limit=3)
            await asyncio.sleep(4 * SETTLE_S)
            return [(await anext(inbox))[1] for _ in range(3)]

        async def speaker(door: Transport, store: Store) -> None:
            await asyncio.sleep(SETTLE_S)
            for number in range(10):
                await door.announce("news", b"%d" % number)

        assert self.run(listener, speaker)[0] == [b"7", b"8", b"9"]

    def test_everybody_else_is_alive_by_role(self) -> None:
        async def main(door: Transport, store: Store) -> tuple[object, ...]:
            await asyncio.sleep(SETTLE_S)
            return door.alive(), door.alive("peer"), door.alive("hub"), door.alive("nothing")

        async def stay(door: Transport, store: Store) -> None:
            await asyncio.sleep(2 * SETTLE_S)

        assert self.run(main, stay, stay)[0] == ((B, C), (B,), (C,), ())

    @pytest.mark.parametrize(("start", "stop"), [(0, 100_000), (10, 20), (7, 7), (99_999, 100_000)])
    def test_a_blob_range_is_those_bytes(self, start: int, stop: int) -> None:
        blob = bytes(number % 251 for number in range(100_000))

        async def holder(door: Transport, store: Store) -> None:
            store.put(blob)

        async def main(door: Transport, store: Store) -> bytes:
            await asyncio.sleep(SETTLE_S)
            return await door.read(B, digest_of(blob), start, stop, timeout_s=TIMEOUT_S)

        assert self.run(main, holder)[0] == blob[start:stop]

    def test_a_blob_or_range_that_the_holder_lacks_is_its_fault(self) -> None:
        async def holder(door: Transport, store: Store) -> None:
            store.put(b"short")

        async def main(door: Transport, store: Store) -> None:
            await asyncio.sleep(SETTLE_S)
            with pytest.raises(RemoteError):
                await door.read(B, digest_of(b"never put"), 0, 1, timeout_s=TIMEOUT_S)
            with pytest.raises(RemoteError):
                await door.read(B, digest_of(b"short"), 0, 6, timeout_s=TIMEOUT_S)

        self.run(main, holder)
