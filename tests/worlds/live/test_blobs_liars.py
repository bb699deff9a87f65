"""Servers that answer something else: every one is told apart, none is believed, none is waited for for ever."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from kuberml.core.errors import RemoteError, Unreachable
from kuberml.core.ids import Digest
from kuberml.worlds.live.blobs.client import BlobReader

DIGEST = Digest("ab" * 32)


@contextlib.contextmanager
def answering(*parts: bytes | float) -> Iterator[str]:
    """A server that sends these bytes (and waits these seconds) whatever it is asked, then closes."""
    over = threading.Event()

    def serve(listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection, contextlib.suppress(OSError):
                    connection.recv(1 << 16)
                    for part in parts:
                        if isinstance(part, float):
                            over.wait(part)
                        else:
                            connection.sendall(part)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            over.set()
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def read(url: str, stall_s: float = 5.0) -> bytes:
    async def main() -> bytes:
        reader = BlobReader()
        try:
            return await reader.read(url, DIGEST, 2, 7, stall_s=stall_s)
        finally:
            await reader.close()

    return asyncio.run(main())


RIGHT = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-6/9\r\nContent-Length: 5\r\n\r\n"


def test_the_right_answer_is_taken_and_what_follows_it_is_not() -> None:
    with answering(RIGHT + b"abcde" + b"and more"):
        pass
    with answering(RIGHT[:30], 0.1, RIGHT[30:] + b"ab", 0.1, b"cde" + b"HTTP/1.1 200 OK") as url:
        assert read(url) == b"abcde"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabcdefghi", "does not serve ranges"),
        (b"HTTP/1.1 200 OK\r\n\r\nabcdefghi", "does not say how long"),
        (b"HTTP/1.1 206 P\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n", "does not say how long"),
        (b"HTTP/1.1 206 P\r\nContent-Length: 5\r\nContent-Encoding: gzip\r\n\r\nabcde", "does not say how long"),
        (b"HTTP/1.1 206 P\r\nContent-Length: 5\r\n\r\nabcde", "sends bytes None"),
        (b"HTTP/1.1 206 P\r\nContent-Range: bytes 0-4/9\r\nContent-Length: 5\r\n\r\nabcde", r"sends bytes \(0, 5\)"),
        (b"HTTP/1.1 206 P\r\nContent-Range: bytes 2-6/9\r\nContent-Length: 999999999999\r\n\r\nabc", "999999999999"),
        (b"HTTP/1.1 206 P\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde", "two different things"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "redirects .302., which is not"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\ngone \x1b[31m", "answers 404: gone"),
        (b"HTTP/1.1 401 No\r\n\r\n", "answers 401$"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n", "does not speak HTTP"),
        (b"\0" * 50_000, "does not speak HTTP"),
        (b"HTTP/1.1 206 P\r\n" + b"x: y\r\n" * 5000, "does not speak HTTP|cut off in the head"),
    ],
)
def test_an_answer_to_another_question_is_the_peers_fault(answer: bytes, says: str) -> None:
    with answering(answer) as url, pytest.raises((RemoteError, Unreachable), match=says) as caught:
        read(url)
    assert isinstance(caught.value, RemoteError) or "cut off" in says
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ((b"",), "closed without an answer"),
        ((RIGHT[:20],), "cut off in the head"),
        ((RIGHT + b"ab",), "cut off after 2 of 5 bytes"),
        ((b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy",), "answers 503: busy"),
        ((b"HTTP/1.1 429 Many\r\nContent-Length: 0\r\n\r\n",), "answers 429"),
        ((30.0,), r"nothing came for 0\.4 s"),
        ((RIGHT + b"ab", 30.0), r"nothing came for 0\.4 s"),
        ((RIGHT, *(byte for _ in range(5) for byte in (b"a", 0.3))), r"nothing came for 0\.4 s"),
        (tuple(part for i in range(60) for part in (RIGHT[i : i + 1], 0.3)), "cut off in the head"),
    ],
)
def test_silence_and_broken_lines_are_nobodys_fault_and_are_noticed_in_time(
    parts: tuple[bytes | float, ...], says: str
) -> None:
    began = time.monotonic()
    with answering(*parts) as url:
        with pytest.raises(Unreachable, match=says):
            read(url, stall_s=0.4)
        assert time.monotonic() - began < 1.7
