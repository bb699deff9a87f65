"""The seam's Store for many nodes in one process: content is kept once, each node has an index of what it holds.

Disks fail on demand: a *full* one refuses every write with OSError, a *corrupt* blob is found out when it is read.
A node that is down cannot write: what a killed process would not have written, a cancelled coroutine does not either.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterator, Mapping
from functools import partial

from kuberml.core.errors import InternalError
from kuberml.core.ids import Digest, digest_of
from kuberml.core.shelf import Shelf
from kuberml.knowledge.card import decode_card
from kuberml.knowledge.pieces import shared_pieces
from kuberml.vault.memory_part import MemoryPart

LARGE_BYTES = 64 * 1024
"""Of an entry of a node's memory that is kept with the blobs."""


class SharedBlobs:
    """Content by digest, kept while at least one node holds it; in memory while there is little of it."""

    def __init__(self) -> None:
        self._blobs = Shelf()
        self._holders: dict[Digest, int] = {}

    def __len__(self) -> int:
        return len(self._blobs)

    def hold(self, digest: Digest, blob: bytes) -> None:
        """One more holder of a blob with this digest."""
        if digest not in self._blobs:
            self._blobs[digest] = blob
        self._holders[digest] = self._holders.get(digest, 0) + 1

    def drop(self, digest: Digest) -> None:
        """One holder less; the last takes the content with it."""
        self._holders[digest] -= 1
        if self._holders[digest] == 0:
            del self._holders[digest], self._blobs[digest]

    def __getitem__(self, digest: Digest) -> bytes:
        return self._blobs[digest]

    def size_bytes(self, digest: Digest) -> int:
        """How long it is."""
        return self._blobs.size_bytes(digest)

    def read(self, digest: Digest, start: int, stop: int) -> bytes:
        """Bytes start..stop of it."""
        return self._blobs.read(digest, start, stop)


class SimulatedStore:
    """`core.seam.Store` of one node. What it held survives a crash."""

    def __init__(self, shared: SharedBlobs | None = None) -> None:
        self.is_full = False
        self.is_frozen = False
        self._shared = SharedBlobs() if shared is None else shared
        self._held: set[Digest] = set()
        self._corrupt: set[Digest] = set()
        self._cards: dict[Digest, bytes] = {}
        self._memory: dict[str, bytes] = {}
        self._models: dict[str, Digest] = {}  # what is remembered and large, by name: content lies with the blobs
        self._parts: dict[Digest, MemoryPart] = {}
        self._pieces: dict[bytes, tuple[Digest, int]] = {}
        self._indexed: set[Digest] = set()

    def put(self, blob: bytes) -> Digest:
        """See the seam. Raises OSError: the disk is full, or the node is down."""
        digest = digest_of(blob)
        self._keep(digest, blob)
        return digest

    def _keep(self, digest: Digest, blob: bytes) -> None:
        self._check_writable()
        if digest not in self._held:
            self._shared.hold(digest, blob)
            self._held.add(digest)
        self._corrupt.discard(digest)

    def get(self, digest: Digest) -> bytes:
        """See the seam. Content was hashed when it was put and cannot change, so only injected damage is looked for."""
        self._check_held(digest)
        if digest in self._corrupt:
            self.delete(digest)
            raise InternalError(f"the disk gave other bytes for blob {digest}; it was dropped")
        return self._shared[digest]

    def read(self, digest: Digest, start: int, stop: int) -> bytes:
        """See the seam. A corrupt blob gives flipped bytes here."""
        self._check_held(digest)
        size_bytes = self._shared.size_bytes(digest)
        if not 0 <= start <= stop <= size_bytes:
            raise ValueError(f"bytes {start}..{stop} are outside a blob of {size_bytes} bytes")
        content = self._shared.read(digest, start, stop)
        return flipped(content) if digest in self._corrupt else content

    def size_bytes(self, digest: Digest) -> int | None:
        """See the seam."""
        return self._shared.size_bytes(digest) if digest in self._held else None

    def part(self, digest: Digest, size_bytes: int) -> MemoryPart:
        """See the seam. Raises OSError: the disk is full, or the node is down."""
        self._check_writable()
        left = self._parts.get(digest)
        if left is not None and not left.is_open and left.size_bytes == size_bytes:
            return left.reopen()
        part = MemoryPart(digest, size_bytes, partial(self._keep, digest),
                          check_writable=self._check_writable, forget=self._forget)  # fmt: skip
        if left is None:
            self._parts[digest] = part
        return part

    def _forget(self, part: MemoryPart) -> None:
        if self._parts.get(part.digest) is part:
            del self._parts[part.digest]

    def find_pieces(self, hashes: Collection[bytes]) -> dict[bytes, tuple[Digest, int]]:
        """See the seam. Cards are looked through when this is first asked: most nodes never do."""
        for digest in sorted(self._cards.keys() - self._indexed):
            self._indexed.add(digest)
            for hash_, blob, start in shared_pieces(decode_card(self._cards[digest]).card):
                self._pieces.setdefault(hash_, (blob, start))
        found = {hash_: self._pieces[hash_] for hash_ in hashes if hash_ in self._pieces}
        return {hash_: place for hash_, place in found.items() if place[0] in self._held}

    def delete(self, digest: Digest) -> None:
        """See the seam."""
        if digest in self._held:
            self._held.discard(digest)
            self._corrupt.discard(digest)
            self._shared.drop(digest)

    def put_card(self, digest: Digest, card: bytes) -> None:
        """See the seam. Raises OSError: the disk is full, or the node is down."""
        self._check_writable()
        self._cards[digest] = bytes(card)

    def card(self, digest: Digest) -> bytes:
        """See the seam."""
        return self._cards[digest]

    def cards(self) -> Iterator[Digest]:
        """See the seam."""
        return iter(sorted(self._cards))

    def delete_card(self, digest: Digest) -> None:
        """See the seam."""
        self._cards.pop(digest, None)

    def memory(self) -> dict[str, bytes]:
        """See the seam."""
        return self._memory | {key: self._shared[digest] for key, digest in self._models.items()}

    def remember(self, entries: Mapping[str, bytes | None]) -> None:
        """See the seam. Raises OSError: the disk is full, or the node is down."""
        self._check_writable()
        for key, content in entries.items():
            self._memory.pop(key, None)
            if key in self._models:
                self._shared.drop(self._models.pop(key))
            if content is not None and len(content) >= LARGE_BYTES:
                self._models[key] = digest_of(content)
                self._shared.hold(self._models[key], content)
            elif content is not None:
                self._memory[key] = bytes(content)

    def corrupt(self, digest: Digest) -> None:
        """A fault: the disk will give other bytes for this blob."""
        self._check_held(digest)
        self._corrupt.add(digest)

    def _check_held(self, digest: Digest) -> None:
        if digest not in self._held:
            raise KeyError(digest)

    def _check_writable(self) -> None:
        if self.is_frozen:
            raise OSError(errno.EIO, "the node is down")
        if self.is_full:
            raise OSError(errno.ENOSPC, "no space left on the simulated disk")


def flipped(content: bytes) -> bytes:
    """`content` with its middle byte inverted."""
    middle = len(content) // 2
    return content[:middle] + bytes(byte ^ 0xFF for byte in content[middle : middle + 1]) + content[middle + 1 :]
