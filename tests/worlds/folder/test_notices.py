"""The notice board of a shared folder stays small, and nobody reads the same notice twice."""

import asyncio
import contextlib
from pathlib import Path

from kuberml.core.ids import NodeId
from kuberml.vault.folder import FolderStore
from kuberml.worlds.folder.notices import TRIM_EVERY, Notice, Notices
from kuberml.worlds.folder.transport import POLL_S, Doors, FolderTransport

A, B = NodeId("a"), NodeId("b")


def test_the_newest_of_each_topic_stay_and_numbers_go_on(tmp_path: Path) -> None:
    board = Notices(tmp_path / "notices.sqlite")
    for number in range(5 * TRIM_EVERY):
        board.post("news", A, str(number).encode(), keep=10)
    board.post("other", A, b"other", keep=10)
    found = board.after(0, "news")
    assert 10 <= len(found) <= 10 + TRIM_EVERY
    assert found[-1].body == str(5 * TRIM_EVERY - 1).encode()
    assert len(board.after(0, "other")) == 1
    assert board.last() == 5 * TRIM_EVERY + 1
    board.close()
    again = Notices(tmp_path / "notices.sqlite")  # what a process that is gone left too much, the next takes away
    again.post("news", B, b"last", keep=10)
    assert [one.body for one in again.after(0, "news")][-1] == b"last"
    assert len(again.after(0, "news")) == 10
    again.close()


class Counting(Notices):
    """Counts what is read of it."""

    read = 0

    def after(self, number: int, topic: str, *, limit: int = -1) -> list[Notice]:
        found = super().after(number, topic, limit=limit)
        self.read += len(found)
        return found


def test_who_listens_reads_its_own_notices_once_and_not_at_every_look(tmp_path: Path) -> None:
    async def main() -> None:
        board = Counting(tmp_path / "notices.sqlite")
        with FolderStore(tmp_path / "vault") as store, contextlib.closing(board):
            door = FolderTransport(Doors(board), A, store)
            news = door.subscribe("news")
            for number in range(20):
                await door.announce("news", str(number).encode())
            heard = asyncio.ensure_future(anext(news))
            await asyncio.sleep(5 * POLL_S)
            board.post("news", B, b"hello")
            assert await asyncio.wait_for(heard, 10) == (B, b"hello")
            assert board.read == 21

    asyncio.run(main())
