"""Which way a range is read: a holder that is busy is left alone as long as it asks, one that cannot be dialled for longer."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.core.ids import Digest, NodeId
from kuberml.worlds.live.asking import Door
from kuberml.worlds.live.blobs.answer import Busy, answer_of, refusal
from kuberml.worlds.live.blobs.background import BEHIND
from kuberml.worlds.live.blobs.client import BlobReader
from kuberml.worlds.live.names import Presence
from kuberml.worlds.live.ranges import Ranges
from kuberml.worlds.live.ways import Ways

URL = "http://127.0.0.1:1"
DIGEST = Digest("0" * 64)


class Reader:
    """Fails as it is told, then gives bytes."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.asked = list(errors), 0

    async def read(self, url: str, digest: Digest, start: int, stop: int, **more: Any) -> bytes:
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return bytes(stop - start)


def ranges(reader: Reader) -> Any:
    async def door(node: NodeId, timeout_s: float) -> Door:
        return Door(urls=(URL,))

    async def wait_for(node: NodeId, timeout_s: float) -> None:
        return None

    presence = Presence(NodeId("holder"), "peer", "0" * 64, "epoch")
    here: Any = SimpleNamespace(remembered=lambda node: presence, wait_for=wait_for)
    voice: Any = SimpleNamespace(realm="default", ticket=lambda holder, epoch: b"ticket")
    asking: Any = SimpleNamespace(ways=Ways(), door=door)
    return Ranges(SimpleNamespace(session=None), voice, here, asking, reader, {})  # type: ignore[arg-type]


def busy(wait_s: float) -> Busy:
    error = Busy("127.0.0.1:1 answers 429: too many requests are open here; try again")
    error.wait_s = wait_s
    return error


def test_a_busy_holder_is_asked_again_after_the_pause_it_asks_for() -> None:
    async def main() -> None:
        reader = Reader(busy(0.2))
        reads = ranges(reader)
        for _ in range(3):  # the second and the third are not even sent
            with pytest.raises(Unreachable, match="too many requests"):
                await reads.read(NodeId("holder"), DIGEST, 0, 9, 5.0)
        assert reader.asked == 1
        await asyncio.sleep(0.25)
        assert await reads.read(NodeId("holder"), DIGEST, 0, 9, 5.0) == bytes(9)

    asyncio.run(main())


def test_an_address_that_cannot_be_dialled_is_left_out_for_longer() -> None:
    async def main() -> None:
        reader = Reader(Unreachable("nobody there"))
        reads = ranges(reader)
        for _ in range(3):
            with pytest.raises(Unreachable, match="holder is not here"):  # nor over the router
                await reads.read(NodeId("holder"), DIGEST, 0, 9, 5.0)
        assert reader.asked == 1

    began_s = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - began_s < 5


@pytest.mark.parametrize(("said", "wait_s"), [("", 1.0), ("Retry-After: 7\r\n", 7.0), ("Retry-After: 99999\r\n", 60.0),
                                              ("Retry-After: soon\r\n", 1.0)])  # fmt: skip
def test_the_pause_that_is_asked_for_is_believed_within_reason(said: str, wait_s: float) -> None:
    answer, _ = answer_of(f"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n{said}\r\n".encode(), "there")
    error = refusal(answer, b"", "there")
    assert isinstance(error, Busy)
    assert error.wait_s == wait_s


def test_only_who_is_there_and_busy_is_busy() -> None:
    for status, sort in ((404, RemoteError), (403, RemoteError), (502, Unreachable), (503, Busy)):
        answer, _ = answer_of(f"HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n".encode(), "there")
        assert type(refusal(answer, b"", "there")) is sort


@pytest.mark.skipif(sys.platform != "linux", reason="other systems know urgency by process only")
def test_bulk_threads_are_less_urgent_than_their_process() -> None:
    def urgency() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    async def main() -> int:
        reader = BlobReader()
        try:
            return await asyncio.get_running_loop().run_in_executor(reader._threads, urgency)
        finally:
            await reader.close()

    before = urgency()
    assert asyncio.run(main()) == min(19, before + BEHIND)
    assert urgency() == before
