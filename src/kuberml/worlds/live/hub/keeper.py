"""The hub's copies: what is announced is fetched into its vault, so that who published it may leave, or sit behind NAT.

A card is *kept* once all its blobs are here; then the hub is one of its holders. After a restart what is missing is fetched
again. Over the limit the oldest copies go; what nobody offers any more (an older version, a withdrawal) goes too.
"""

from __future__ import annotations

import asyncio
import contextlib

from kuberml.core.errors import KuberError, RemoteError, Unreachable
from kuberml.core.ids import Digest, NodeId, check_digest
from kuberml.core.seam import Recorder, Transport
from kuberml.exchange.delivery import Delivery
from kuberml.knowledge.card import SignedCard, encode_card
from kuberml.knowledge.verdict import SignedVerdict
from kuberml.knowledge.withdrawal import SignedWithdrawal
from kuberml.vault.catalog import Catalog
from kuberml.vault.folder import FolderStore
from kuberml.worlds.live.names import HUB

PARALLEL = 4
"""Deliveries at a time."""
QUEUE = 4096
STALL_S = 10.0
AGAIN_S = 5.0
"""Before a delivery that failed is tried again, while its holder is here."""
TRIES = 8
TRIM_S = 30.0
"""Between looks at what is over the limit."""
TRIM_AGAIN_S = 1.0
"""The same when something was withdrawn: a look goes through all copies, so many withdrawals share one."""


class Keeper:
    """See the module."""

    def __init__(
        self, transport: Transport, store: FolderStore, catalog: Catalog, recorder: Recorder, *, keep_bytes: int
    ) -> None:
        self._transport, self._store, self._catalog, self._recorder = transport, store, catalog, recorder
        self._keep_bytes = keep_bytes
        self._queue: asyncio.Queue[tuple[SignedCard, NodeId, int]] = asyncio.Queue(QUEUE)
        self._waiting: dict[Digest, asyncio.Event] = {}
        self._workers: list[asyncio.Task[None]] = []
        self._is_due = asyncio.Event()

    def start(self) -> None:
        """Begin, with what was announced before and is not here."""
        loop = asyncio.get_running_loop()
        self._workers = [loop.create_task(self._work(), name=f"keeper {place}") for place in range(PARALLEL)]
        self._workers.append(loop.create_task(self._trimming(), name="keeper trimming"))
        for signed in self._catalog.cards():
            holders = self._catalog.holders(signed.digest)
            if HUB not in holders or not self._has(signed):
                for holder in holders:
                    self._want(signed, holder)

    def announced(self, holder: NodeId, signed: SignedCard, *, is_new: bool) -> None:
        """See `exchange.hub.Watcher`: get it, unless that is too much."""
        self._want(signed, holder)

    def judged(self, witness: NodeId, signed: SignedVerdict) -> None:
        """See `exchange.hub.Watcher`; nothing to keep."""

    def withdrawn(self, signed: SignedWithdrawal, cards: int) -> None:
        """See `exchange.hub.Watcher`: its copies go soon."""
        self._is_due.set()

    def _want(self, signed: SignedCard, holder: NodeId) -> None:
        if holder == HUB or signed.card.size_bytes > self._keep_bytes:
            return
        self._waiting.setdefault(signed.digest, asyncio.Event())
        with contextlib.suppress(asyncio.QueueFull):
            self._queue.put_nowait((signed, holder, 1))

    async def answer(self, asker: NodeId, body: bytes) -> bytes:
        """Request `keep`: answers once everything of a card is here.

        Raises:
            RemoteError: the card is not in the catalog, or too large to be kept.
        """
        digest = check_digest(body.decode("ascii", "replace"))
        signed = self._catalog.card(digest)
        if signed is None:
            raise RemoteError(f"{digest[:12]} is not announced here")
        if signed.card.size_bytes > self._keep_bytes:
            raise RemoteError(f"{signed.card.size_bytes} bytes are more than the {self._keep_bytes} that are kept here")
        if not self._has(signed):
            waiting = self._waiting.setdefault(digest, asyncio.Event())
            self._want(signed, asker)
            await waiting.wait()
        return b"kept"

    async def close(self) -> None:
        """Stop; what is under way goes on after the next start."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    def _has(self, signed: SignedCard) -> bool:
        return all(self._store.size_bytes(ref.digest) is not None for ref in signed.card.blobs)

    async def _work(self) -> None:
        while True:
            signed, holder, tries = await self._queue.get()
            try:
                await self._keep(signed, holder)
            except (Unreachable, RemoteError, OSError) as error:
                self._recorder.record("not kept", card=signed.digest, holder=holder, why=str(error))
                if tries < TRIES and not isinstance(error, RemoteError):
                    asyncio.get_running_loop().call_later(AGAIN_S, self._again, signed, holder, tries + 1)

    def _again(self, signed: SignedCard, holder: NodeId, tries: int) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            self._queue.put_nowait((signed, holder, tries))

    async def _keep(self, signed: SignedCard, holder: NodeId) -> None:
        if self._catalog.card(signed.digest) is None:
            self._settle(signed.digest)
            return  # a newer version came, or it was withdrawn
        if not self._has(signed):
            await Delivery(self._transport, self._store, timeout_s=STALL_S).deliver(signed.card, [holder])
        self._store.put_card(signed.digest, encode_card(signed))
        with contextlib.suppress(KuberError):  # it may just have been withdrawn
            self._catalog.add(signed, HUB, keep=1 << 30)
        self._recorder.record("kept", card=signed.digest, holder=holder, size_bytes=signed.card.size_bytes)
        self._settle(signed.digest)

    def _settle(self, digest: Digest) -> None:
        waiting = self._waiting.pop(digest, None)
        if waiting is not None:
            waiting.set()

    async def _trimming(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TRIM_S):
                    await self._is_due.wait()
            self._is_due.clear()
            self.trim()
            await asyncio.sleep(TRIM_AGAIN_S)

    def trim(self) -> None:
        """Forget copies of what is offered no more, and the oldest beyond the limit."""
        offered = [self._catalog.card(digest) for digest in self._store.cards()]
        gone = [digest for digest, signed in zip(self._store.cards(), offered, strict=True) if signed is None]
        kept = sorted((one for one in offered if one is not None), key=lambda one: one.card.learned_at_ms)
        total = sum(one.card.size_bytes for one in kept)
        while kept and total > self._keep_bytes:
            total -= kept[0].card.size_bytes
            gone.append(kept.pop(0).digest)
        for digest in gone:
            self._store.delete_card(digest)
            self._catalog.drop_holder(HUB, digest)
        if gone:
            self._store.sweep()
