import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from kuberml.core.errors import ConfigError, RemoteError, Unreachable
from kuberml.core.ids import NodeId
from kuberml.core.seam import Clock, Compute
from kuberml.worlds.folder.clock import SystemClock
from kuberml.worlds.folder.compute import HereCompute
from kuberml.worlds.folder.store import MemberStore
from kuberml.worlds.folder.world import HUB, FolderWorld
from tests.contracts.clock import ClockContract
from tests.contracts.compute import ComputeContract
from tests.contracts.store import StoreContract
from tests.contracts.transport import ROLES, A, B, C, Main, TransportContract, echo


async def awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


class TestSystemClock(ClockContract):
    def run(self, main: Callable[[Clock], Awaitable[Any]]) -> Any:
        return asyncio.run(awaited(main(SystemClock())))

    def test_a_system_clock_that_is_set_back_stands_still(self, monkeypatch: pytest.MonkeyPatch) -> None:
        times = iter([10, 7, 12])
        monkeypatch.setattr("time.time_ns", lambda: next(times))
        clock = SystemClock()
        assert [clock.now_ns() for _ in range(3)] == [10, 10, 12]

    def test_a_system_clock_that_was_years_ahead_is_put_right_without_a_restart(self, monkeypatch: pytest.MonkeyPatch) -> None:
        years_ns = 10 * 365 * 86_400 * 10**9
        times = iter([5, 5 + years_ns, 6, 7])
        monkeypatch.setattr("time.time_ns", lambda: next(times))
        clock = SystemClock()
        assert [clock.now_ns() for _ in range(4)] == [5, 5 + years_ns, 6, 7]


class TestHereCompute(ComputeContract):
    def run(self, main: Callable[[Compute], Awaitable[Any]]) -> Any:
        return asyncio.run(awaited(main(HereCompute())))

    def test_threads_are_the_users_again_after_a_job(self) -> None:
        torch = pytest.importorskip("torch")
        before = torch.get_num_threads()
        self.test_a_job_returns_its_value()
        assert torch.get_num_threads() == before


class TestMemberStore(StoreContract):
    def make(self, tmp_path: Path) -> MemberStore:
        return MemberStore(tmp_path / "vault", A)

    def test_members_share_blobs_but_not_memory(self, tmp_path: Path) -> None:
        with MemberStore(tmp_path / "vault", A) as mine, MemberStore(tmp_path / "vault", NodeId("a2")) as other:
            digest = mine.put(b"shared")
            mine.remember({"secret": b"1"})
            other.remember({"secret": b"2"})
            assert (other.get(digest), mine.memory(), other.memory()) == (b"shared", {"secret": b"1"}, {"secret": b"2"})


class TestFolderTransport(TransportContract):
    """Nodes of one process. That a blob is whoever's asks for it is the folder's nature: all members share one store."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "shared"

    def run(self, *mains: Main) -> list[Any]:
        async def whole() -> list[Any]:
            entered = [world.enter(node, ROLES[node]) for node, _ in zip((A, B, C), mains, strict=False)]
            return await asyncio.gather(*(main(*one) for main, one in zip(mains, entered, strict=True)))

        world = FolderWorld(self.path)
        try:
            return asyncio.run(whole())
        finally:
            world.close()

    def test_another_process_is_heard_and_read_from_but_not_asked(self) -> None:
        here, elsewhere = FolderWorld(self.path), FolderWorld(self.path)
        try:
            door, _ = here.enter(A, "peer")
            other, store = elsewhere.enter(B, "peer")
            digest = store.put(b"0123456789")

            async def main() -> tuple[NodeId, bytes]:
                news = door.subscribe("news")
                await other.announce("news", b"hello")
                with pytest.raises(Unreachable, match="not in this process"):
                    await door.ask(B, "echo", b"", timeout_s=1)
                assert await door.read(B, digest, 2, 4, timeout_s=1) == b"23"
                return await anext(news)

            assert asyncio.run(main()) == (B, b"hello")
            assert door.alive() == (B,)
            elsewhere.close()
            assert door.alive() == ()
            assert asyncio.run(door.read(B, digest, 0, 1, timeout_s=1)) == b"0"  # the folder outlives who wrote it
        finally:
            here.close()
            elsewhere.close()

    def test_a_busy_node_refuses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("kuberml.worlds.folder.transport.MAX_IN_FLIGHT", 0)

        async def main(door: Any, store: Any) -> None:
            door.serve("echo", echo)
            with pytest.raises(RemoteError, match="busy"):
                await door.ask(A, "echo", b"", timeout_s=1)

        self.run(main)

    def test_a_name_stays_with_the_keys_that_took_it(self) -> None:
        world = FolderWorld(self.path)
        world.enter(A, "peer", "1" * 64)
        world.close()
        world = FolderWorld(self.path)
        with pytest.raises(ConfigError, match="belongs to other keys"):
            world.enter(A, "peer", "2" * 64)
        with pytest.raises(ConfigError, match="is the hub's"):
            world.enter(HUB, "peer")
        world.close()
        world.close()
