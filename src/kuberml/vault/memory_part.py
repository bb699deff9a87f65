"""A `core.seam.Part` in memory: for small blobs, for full disks, and for the simulated world."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from blake3 import blake3

from kuberml.core.errors import RemoteError
from kuberml.core.ids import Digest, digest_of

T = TypeVar("T")


class MemoryPart:
    """See the seam."""

    def __init__(
        self,
        digest: Digest,
        size_bytes: int,
        keep: Callable[[bytes], object],
        *,
        check_writable: Callable[[], None] = lambda: None,
        forget: Callable[[MemoryPart], object] = lambda part: None,
    ) -> None:
        """A blob of `size_bytes`, nothing of it here.

        Args:
            digest: what the whole must be.
            size_bytes: of the whole, or of the prefix that is wanted.
            keep: where the whole goes.
            check_writable: raises OSError where a disk would.
            forget: called when nobody needs it any more.
        """
        self.digest, self.size_bytes = digest, size_bytes
        self.is_new, self.is_open = True, True
        self._content = bytearray(size_bytes)
        self._whole: bytes | None = None
        self._keep, self._check_writable, self._forget = keep, check_writable, forget

    def reopen(self) -> MemoryPart:
        """The same for the next who wants it."""
        self.is_open = True
        return self

    def write(self, start: int, content: bytes | memoryview) -> None:
        """See the seam."""
        self._check(start, start + len(content))
        self._check_writable()
        self.is_new, self._whole = False, None
        self._content[start : start + len(content)] = content

    def has(self, start: int, stop: int, blake3: bytes) -> bool:
        """See the seam."""
        return _hash(self.read(start, stop)) == blake3

    def read(self, start: int, stop: int) -> bytes:
        """See the seam."""
        self._check(start, stop)
        with memoryview(self._content) as view:
            return bytes(view[start:stop])

    def whole(self) -> bytes:
        """See the seam. Copied and hashed once, until something else is written."""
        if self._whole is None:
            content = self.read(0, self.size_bytes)
            if digest_of(content) != self.digest:
                self.discard()
                raise RemoteError(nonsense(self.digest))
            self._whole = content
        return self._whole

    def finish(self) -> None:
        """See the seam."""
        whole = self.whole()
        self.close()
        self._keep(whole)
        self._forget(self)

    def close(self) -> None:
        """See the seam."""
        self.is_open, self._whole = False, None

    def discard(self) -> None:
        """See the seam."""
        self.is_open = False
        self._content, self._whole = bytearray(), None
        self._forget(self)

    async def beside(self, work: Callable[[], T]) -> T:
        """See the seam: there is nothing to wait for."""
        return work()

    def _check(self, start: int, stop: int) -> None:
        if not self.is_open:
            raise ValueError(f"blob {self.digest[:12]} is not open")
        if not 0 <= start <= stop <= self.size_bytes:
            raise ValueError(f"bytes {start}..{stop} are outside a blob of {self.size_bytes} bytes")


def nonsense(digest: Digest) -> str:
    """What is wrong with a blob whose pieces are as signed and whose whole is not: no other source can help."""
    return f"blob {digest[:12]} has another digest than its signed pieces give: its author signed what cannot be"


def _hash(content: bytes) -> bytes:
    return blake3(content).digest()
