"""Ranges of files that a thread hands to the kernel, so that nothing else in the event loop waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import select
import sys
import termios
import threading
import time

from kuberml.worlds.live.blobs.background import step_back
from kuberml.worlds.live.blobs.bucket import Bucket

SLICE_BYTES = 1 << 20
"""Given to the kernel at once."""
THREADS = threading.BoundedSemaphore(16)
"""Of this process that send at once; slow peers must not use up more."""
LOOK_S = 0.25
"""A thread that waits for its peer looks up so often."""


class Pushing:
    """A range on its way from file to socket, by a thread of its own, for which one of THREADS was acquired."""

    def __init__(self, out: int, descriptor: int, start: int, stop: int, bucket: Bucket, stall_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()
        self._out, self._file = os.dup(out), os.dup(descriptor)  # who asked may leave before the thread does
        self._start, self._stop, self._bucket, self._stall_s = start, stop, bucket, stall_s
        self._is_unwanted = False

    async def ended(self) -> None:
        """Send it. Raises TimeoutError, OSError: see `send`."""
        threading.Thread(target=self._run, name="kuberml-send", daemon=True).start()
        try:
            await self._done
        finally:
            self._is_unwanted = True

    def _run(self) -> None:
        step_back()
        error: OSError | None = None
        try:
            self._push()
        except OSError as caught:  # TimeoutError is one
            error = caught
        finally:
            os.close(self._out)
            os.close(self._file)
            THREADS.release()
            with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile
                self._loop.call_soon_threadsafe(self._tell, error)

    def _tell(self, error: OSError | None) -> None:
        if not self._done.done():
            self._done.set_result(None) if error is None else self._done.set_exception(error)

    def _push(self) -> None:
        while self._start < self._stop and not self._is_unwanted:
            size_bytes = min(self._stop - self._start, self._bucket.slice_bytes(SLICE_BYTES))
            try:
                sent_bytes = os.sendfile(self._out, self._file, self._start, size_bytes)
            except BlockingIOError:
                self._wait()
                continue
            if not sent_bytes:
                raise OSError(f"the blob ended at byte {self._start}, before {self._stop}")
            self._start += sent_bytes
            if wait_s := self._bucket.take(sent_bytes):
                time.sleep(wait_s)

    def _wait(self) -> None:
        """Until the peer takes more. A slow one counts as there while the kernel's buffer gets emptier."""
        ready, since_s, left_bytes = select.poll(), time.monotonic(), unsent_bytes(self._out)
        ready.register(self._out, select.POLLOUT)
        while not self._is_unwanted and not ready.poll(1000 * LOOK_S):
            before_bytes, left_bytes = left_bytes, unsent_bytes(self._out)
            if left_bytes != before_bytes:
                since_s = time.monotonic()
            elif time.monotonic() - since_s > self._stall_s:
                raise TimeoutError


def unsent_bytes(descriptor: int) -> int | None:
    """What the kernel has of ours that the peer has not confirmed; None where it does not tell."""
    try:
        return int.from_bytes(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return None
