"""Delivery: the bytes of a card's blobs, verified piece by piece while they arrive, from whoever holds them.

A wrong piece costs that piece: its holder is named and avoided, the next holder goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from kuberml.core.errors import InternalError, RemoteError, Unreachable
from kuberml.core.ids import NodeId
from kuberml.core.seam import Store, Transport
from kuberml.exchange.place import OverBudget
from kuberml.knowledge.card import BlobRef, Card
from kuberml.knowledge.pack import check_blob, check_piece

WINDOW_BYTES = 1 << 20
"""Asked for at once: enough to hide a round trip, little enough to lose."""


class Delivery:
    """Fetches blobs for one node."""

    def __init__(self, transport: Transport, store: Store, *, timeout_s: float, on_bytes: Callable[[int], None]) -> None:
        """`on_bytes` is told of every received byte, wrong ones included; it may raise to stop (a budget)."""
        self._transport, self._store = transport, store
        self._timeout_s, self._on_bytes = timeout_s, on_bytes
        self.liars: dict[NodeId, str] = {}

    async def fetch(self, card: Card, holders: Sequence[NodeId]) -> tuple[bytes, ...]:
        """All blobs of a card, from the store where they are there already. Whoever asked keeps them once the value opens.

        Raises:
            Unreachable: no holder could give the rest in time.
            RemoteError: every holder gave wrong bytes.
        """
        return tuple([await self._blob(ref, holders) for ref in card.blobs])

    async def prefix(self, card: Card, holders: Sequence[NodeId], limit_bytes: int) -> tuple[bytes, ...]:
        """The first blob's longest verified prefix within limit_bytes: a nested packet, smaller. See `BlobRef.cuts`.

        Raises:
            RemoteError: the blob has no cut within limit_bytes; and as `fetch`.
        """
        ref = card.blobs[0]
        stops = [stop for stop in ref.cuts if stop <= limit_bytes]
        if not stops:
            raise RemoteError(f"no prefix within {limit_bytes} bytes: the first cut is at {ref.cuts[0]}")
        own = self._own(ref)
        return (own[: stops[-1]] if own is not None else await self._pieces(ref, holders, len(stops)),)

    async def _blob(self, ref: BlobRef, holders: Sequence[NodeId]) -> bytes:
        own = self._own(ref)
        if own is not None:
            return own
        blob = await self._pieces(ref, holders, len(ref.cuts))
        check_blob(ref, blob)
        return blob

    def _own(self, ref: BlobRef) -> bytes | None:
        """The blob from the own store, verified; None if it is not there, or the disk has spoiled it: others still have it."""
        if self._store.size_bytes(ref.digest) is None:
            return None
        try:
            return self._store.get(ref.digest)
        except InternalError:
            return None

    async def _pieces(self, ref: BlobRef, holders: Sequence[NodeId], count: int) -> bytes:
        done: list[bytes] = []
        why = "it has no holder"
        for holder in sorted(holders, key=lambda node: node in self.liars):
            try:
                for first, last in _windows(ref, len(done), count):
                    await self._window(ref, holder, first, last, done)
                return b"".join(done)
            except RemoteError as error:
                self.liars[holder] = why = f"{holder}: {error}"
            except OverBudget:
                raise
            except Unreachable as error:
                why = f"{holder}: {error}"
        failure = RemoteError if all(holder in self.liars for holder in holders) and holders else Unreachable
        raise failure(f"blob {ref.digest[:12]} ({ref.size_bytes} bytes) was not delivered; {why}")

    async def _window(self, ref: BlobRef, holder: NodeId, first: int, last: int, done: list[bytes]) -> None:
        """Read pieces first .. last - 1 and append them to `done`, each as soon as it is verified: good ones are never lost."""
        starts = (0, *ref.cuts)
        start, stop = starts[first], ref.cuts[last - 1]
        data = await self._transport.read(holder, ref.digest, start, stop, timeout_s=self._timeout_s)
        self._on_bytes(len(data))
        if len(data) != stop - start:
            raise RemoteError(f"{len(data)} bytes came, {stop - start} were asked for")
        for i in range(first, last):
            piece = data[starts[i] - start : ref.cuts[i] - start]
            check_piece(ref, i, piece)
            done.append(piece)


def _windows(ref: BlobRef, first: int, count: int) -> Iterator[tuple[int, int]]:
    starts = (0, *ref.cuts)
    while first < count:
        last = first + 1
        while last < count and ref.cuts[last] - starts[first] <= WINDOW_BYTES:
            last += 1
        yield first, last
        first = last
