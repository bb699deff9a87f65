"""The delivery of one node: all blobs of a card, from the store where they are there already, else from whoever holds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kuberml.core.errors import InternalError, RemoteError
from kuberml.core.ids import NodeId
from kuberml.core.seam import Part, Store, Transport
from kuberml.exchange.delivery.adopt import borrow, resume
from kuberml.exchange.delivery.plan import Plan
from kuberml.exchange.delivery.progress import Delivered, Watch, unwatched
from kuberml.exchange.delivery.sources import Sources
from kuberml.exchange.delivery.transfer import Transfer
from kuberml.knowledge.card import BlobRef, Card
from kuberml.vault.memory_part import MemoryPart

SMALL_BYTES = 1 << 20
"""Smaller blobs are not worth a file while they are under way."""


class Delivery:
    """Fetches blobs for one node."""

    def __init__(
        self,
        transport: Transport,
        store: Store,
        *,
        on_bytes: Callable[[int], None] = lambda count: None,
        watch: Watch = unwatched,
        timeout_s: float | None = None,
        patience_s: float | None = None,
    ) -> None:
        """Fetch nothing yet.

        Args:
            transport: how, see its `reading`.
            store: where blobs are looked for and kept.
            on_bytes: is told of every received byte, wrong ones included; it may raise OverBudget to stop.
            watch: is told of progress, blob by blob.
            timeout_s, patience_s: instead of the transport's.
        """
        self._transport, self._store = transport, store
        self._on_bytes, self._watch = on_bytes, watch
        reading = transport.reading
        self._reading = reading._replace(
            timeout_s=reading.timeout_s if timeout_s is None else timeout_s,
            patience_s=reading.patience_s if patience_s is None else patience_s,
        )
        self.liars: dict[NodeId, str] = {}
        """Who gave wrong bytes, and what was wrong: asked last from then on."""
        self._proven: set[NodeId] = set()

    async def deliver(self, card: Card, holders: Sequence[NodeId], *, watch: Watch | None = None) -> Delivered:
        """All blobs of a card into the store, whatever their size, with some windows of memory. The caller puts the card.

        What came stays when this is cancelled, fails or is killed: the next try goes on from there.

        Raises:
            Unreachable: no holder could give the rest now; the message names each and says why.
            RemoteError: what its author signed does not fit together: no other holder can help.
            OSError: the disk is full or broken.
        """
        done = Delivered()
        for ref in card.blobs:
            size_bytes = self._store.size_bytes(ref.digest)
            if size_bytes is None:
                part = self._part(ref)
                try:
                    await self._fill(ref, part, holders, len(ref.cuts), done, watch)
                    await part.beside(part.finish)
                finally:
                    part.close()
            elif size_bytes == ref.size_bytes:
                done.local_bytes += size_bytes
            else:
                raise RemoteError(f"blob {ref.digest[:12]} has {size_bytes} bytes, not {ref.size_bytes} as its card says")
        return done

    async def collect(self, card: Card, holders: Sequence[NodeId], *, watch: Watch | None = None) -> Delivered:
        """All blobs of a card in memory, verified. Large ones survive a kill on the way; then `keep` or `drop` what came.

        A full disk does not matter here.

        Raises:
            Unreachable, RemoteError: as `deliver`.
        """
        done = Delivered()
        try:
            for ref in card.blobs:
                done.blobs += (await self._blob(ref, holders, done, watch),)
        except BaseException:
            done.close()
            raise
        return done

    async def fetch(self, card: Card, holders: Sequence[NodeId]) -> tuple[bytes, ...]:
        """All blobs of a card in memory, as `collect`; nothing stays in the store."""
        done = await self.collect(card, holders)
        done.drop()
        return done.blobs

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
        if own is not None:
            return (own[: stops[-1]],)
        part = MemoryPart(ref.digest, stops[-1], self._store.put)
        await self._fill(ref, part, holders, len(stops), Delivered(), None)
        return (part.read(0, stops[-1]),)

    async def _blob(self, ref: BlobRef, holders: Sequence[NodeId], done: Delivered, watch: Watch | None) -> bytes:
        own = self._own(ref)
        if own is not None:
            done.local_bytes += len(own)
            done.found.append(own)
            return own
        part = self._part(ref, or_in_memory=True)
        done.parts.append(part)
        try:
            await self._fill(ref, part, holders, len(ref.cuts), done, watch)
        except OSError:  # the disk became full on the way: what came so far is read from it once more, in vain
            part.discard()
            part = done.parts[-1] = MemoryPart(ref.digest, ref.size_bytes, self._store.put)
            await self._fill(ref, part, holders, len(ref.cuts), done, watch)
        return await part.beside(part.whole)

    async def _fill(
        self, ref: BlobRef, part: Part, holders: Sequence[NodeId], count: int, done: Delivered, watch: Watch | None
    ) -> None:
        """Bring the first `count` pieces of a blob into a part."""
        honest_first = sorted(holders, key=lambda node: node in self.liars)
        sources = Sources(honest_first, self._proven, self.liars, parallel=self._reading.parallel)
        plan = Plan(ref, count, sources, self._reading)
        await resume(plan, part)
        await borrow(plan, part, self._store)
        done.local_bytes += ref.cuts[count - 1] - plan.left_bytes
        transfer = Transfer(plan, part, self._transport, self._reading, on_bytes=self._on_bytes,
                            watch=watch or self._watch, liars=self.liars, proven=self._proven)  # fmt: skip
        try:
            await transfer.run()
        finally:
            done.gave(transfer.by_source)

    def _part(self, ref: BlobRef, *, or_in_memory: bool = False) -> Part:
        if ref.size_bytes > SMALL_BYTES:
            try:
                return self._store.part(ref.digest, ref.size_bytes)
            except OSError:
                if not or_in_memory:
                    raise
        return MemoryPart(ref.digest, ref.size_bytes, self._store.put)

    def _own(self, ref: BlobRef) -> bytes | None:
        """The blob from the own store, verified; None if it is not there, or the disk has spoiled it: others still have it."""
        if self._store.size_bytes(ref.digest) is None:
            return None
        try:
            return self._store.get(ref.digest)
        except InternalError:
            return None
