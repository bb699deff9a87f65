"""The hub's copies: what is announced is fetched into its vault, so that who published it may leave, or sit behind NAT.

A card is *kept* once all its blobs are here; then the hub is one of its holders. After a restart what is missing is fetched
again. Over the limit the oldest copies go; what nobody offers any more (an older version, a withdrawal) goes too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable

from kuberml.core.errors import KuberError, RemoteError, Unreachable
from kuberml.core.ids import Digest, NodeId, check_digest
from kuberml.core.seam import Recorder, Transport
from kuberml.core.tasks import end_all
from kuberml.exchange.delivery import Delivery
from kuberml.knowledge.card import SignedCard, encode_card
from kuberml.knowledge.verdict import SignedVerdict
from kuberml.knowledge.withdrawal import SignedWithdrawal
from kuberml.vault.catalog import Catalog
from kuberml.vault.folder import FolderStore
from kuberml.worlds.live.names import HUB

log = logging.getLogger("kuberml.live")

PARALLEL = 4
"""Deliveries at a time."""
QUEUE = 4096
STALL_S = 10.0
LOOK_S = 0.5
"""Between looks at what is due and whose holder is here."""
AGAIN_S = (1.0, 60.0)
"""Before a delivery that failed is tried again: the first time, and at most. A holder that comes back is asked at once."""
MOST_DUE = 100_000
"""Cards that wait for their holders, at most; beyond, the oldest wait for the next start of this hub."""
ANSWER_S = 30.0
"""How long `keep` waits before it says "not yet": who asked may have gone."""
TRIM_S = 30.0
"""Between looks at what is over the limit."""
TRIM_AGAIN_S = 1.0
"""The same when something was withdrawn: a look goes through all copies, so many withdrawals share one."""


class _Due:
    """A card that is not here yet: who has it, and when they are asked next."""

    def __init__(self, signed: SignedCard) -> None:
        self.signed, self.holders, self.kept = signed, set[NodeId](), asyncio.Event()
        self.is_queued = False
        self.hurry()

    def hurry(self) -> None:
        """Now, and soon again if that fails."""
        self.at_s, self.wait_s = 0.0, AGAIN_S[0]

    def later(self) -> None:
        """After a while, and after twice that if it fails again."""
        self.at_s = asyncio.get_running_loop().time() + self.wait_s
        self.wait_s = min(2 * self.wait_s, AGAIN_S[1])


class Keeper:
    """See the module."""

    def __init__(
        self, transport: Transport, store: FolderStore, catalog: Catalog, recorder: Recorder, *, keep_bytes: int
    ) -> None:
        self._transport, self._store, self._catalog, self._recorder = transport, store, catalog, recorder
        self._keep_bytes = keep_bytes
        self._due: dict[Digest, _Due] = {}
        self._queue: asyncio.Queue[_Due] = asyncio.Queue(QUEUE)
        self._here: frozenset[NodeId] = frozenset()
        self._workers: list[asyncio.Task[None]] = []
        self._is_due = asyncio.Event()
        self.on_kept: Callable[[SignedCard], None] = lambda signed: None
        """Is told of every card once all of it is here."""

    def start(self) -> None:
        """Begin, with what was announced before and is not here."""
        loop = asyncio.get_running_loop()
        self._workers = [loop.create_task(self._work(), name=f"keeper {place}") for place in range(PARALLEL)]
        self._workers.append(loop.create_task(self._looking(), name="keeper looking"))
        self._workers.append(loop.create_task(self._trimming(), name="keeper trimming"))
        for signed in self._catalog.cards():
            if not self._is_kept(signed):
                due = self._want(signed, self._catalog.holders(signed.digest))
                if self._has(signed):  # it was all here, and not yet written down as ours
                    self._enqueue(due)

    def announced(self, holder: NodeId, signed: SignedCard, *, is_new: bool) -> None:
        """See `exchange.hub.Watcher`: get it, unless that is too much."""
        self._enqueue(self._want(signed, (holder,)))

    def judged(self, witness: NodeId, signed: SignedVerdict) -> None:
        """See `exchange.hub.Watcher`; nothing to keep."""

    def withdrawn(self, signed: SignedWithdrawal, cards: int) -> None:
        """See `exchange.hub.Watcher`: its copies go soon."""
        self._is_due.set()

    def _want(self, signed: SignedCard, holders: Iterable[NodeId]) -> _Due:
        """Have it got from any of these, as soon as one is here."""
        due = self._due.setdefault(signed.digest, _Due(signed))
        due.holders.update(holder for holder in holders if holder != HUB)
        due.hurry()
        if len(self._due) > MOST_DUE:
            self._due.pop(next(iter(self._due)))
        return due

    def _enqueue(self, due: _Due) -> None:
        if not due.is_queued and due.signed.card.size_bytes <= self._keep_bytes:
            with contextlib.suppress(asyncio.QueueFull):  # the next look sees to it
                self._queue.put_nowait(due)
                due.is_queued = True

    def _look(self) -> None:
        """Queue what is due of those who are here; of those who have just come, everything."""
        here, now_s = frozenset(self._transport.alive()), asyncio.get_running_loop().time()
        come, self._here = here - self._here, here
        for due in self._due.values():
            if not come.isdisjoint(due.holders):
                due.hurry()
            if now_s >= due.at_s and not here.isdisjoint(due.holders):
                self._enqueue(due)

    async def _looking(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(LOOK_S)

    async def answer(self, asker: NodeId, body: bytes) -> bytes:
        """Request `keep`: answers once everything of a card is here.

        Raises:
            RemoteError: the card is not in the catalog, or too large to be kept.
            Unreachable: not yet: ask again.
        """
        digest = check_digest(body.decode("ascii", "replace"))
        signed = self._catalog.card(digest)
        if signed is None:
            raise RemoteError(f"{digest[:12]} is not announced here")
        if signed.card.size_bytes > self._keep_bytes:
            raise RemoteError(f"{signed.card.size_bytes} bytes are more than the {self._keep_bytes} that are kept here")
        if not self._is_kept(signed):
            due = self._want(signed, (asker,))
            self._enqueue(due)
            try:
                async with asyncio.timeout(ANSWER_S):
                    await due.kept.wait()
            except TimeoutError:
                raise Unreachable(f"{digest[:12]} is announced here, and not all of it has come yet") from None
        return b"kept"

    async def close(self) -> None:
        """Stop; what is under way goes on after the next start."""
        await end_all(self._workers)

    def _is_kept(self, signed: SignedCard) -> bool:
        return HUB in self._catalog.holders(signed.digest) and self._has(signed)

    def _has(self, signed: SignedCard) -> bool:
        return all(self._store.size_bytes(ref.digest) is not None for ref in signed.card.blobs)

    async def _work(self) -> None:
        while True:
            due = await self._queue.get()
            try:
                await self._keep(due)
            except (KuberError, OSError) as error:  # they went away, or lie, or our disk is full: none of it need last
                self._recorder.record("not kept", card=due.signed.digest, holders=sorted(due.holders), why=str(error))
                due.later()
            except Exception:  # our own mistake: the other cards are kept nevertheless
                log.exception("%s is not kept yet", due.signed.digest[:12])
                due.later()
            due.is_queued = False

    async def _keep(self, due: _Due) -> None:
        signed = due.signed
        if self._catalog.card(signed.digest) is not None:  # else a newer version came, or it was withdrawn
            await self._copy(signed, due.holders)
            with contextlib.suppress(RemoteError):  # it may just have been withdrawn
                self._catalog.add(signed, HUB, keep=1 << 30)
            self._recorder.record("kept", card=signed.digest, size_bytes=signed.card.size_bytes)
            self.on_kept(signed)
        self._due.pop(signed.digest, None)
        due.kept.set()

    async def _copy(self, signed: SignedCard, holders: Iterable[NodeId]) -> None:
        if not self._has(signed):
            delivery = Delivery(self._transport, self._store, timeout_s=STALL_S)
            await delivery.deliver(signed.card, sorted(holders))
        self._store.put_card(signed.digest, encode_card(signed))

    async def mirror(self, signed: SignedCard, source: NodeId) -> None:
        """A copy of what nobody announces here, and in the catalog where it came from. To be announced when this is done.

        Raises:
            RemoteError: it is too large to be kept, or the catalog refuses it.
            Unreachable: `source` did not give it.
        """
        if signed.card.size_bytes > self._keep_bytes:
            raise RemoteError(f"{signed.card.size_bytes} bytes are more than the {self._keep_bytes} that are kept here")
        await self._copy(signed, (source,))
        self._catalog.add(signed, source)

    async def _trimming(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TRIM_S):
                    await self._is_due.wait()
            self._is_due.clear()
            try:
                self.trim()
            except OSError as error:
                log.warning("the copies are looked through again later: %s", error)
            except Exception:
                log.exception("the copies are looked through again later")
            await asyncio.sleep(TRIM_AGAIN_S)

    def trim(self) -> None:
        """Forget copies of what is offered no more, and the oldest beyond the limit."""
        offered = {digest: self._catalog.card(digest) for digest in self._store.cards()}
        gone = [digest for digest, signed in offered.items() if signed is None]
        kept = sorted((one for one in offered.values() if one is not None), key=lambda one: one.card.learned_at_ms)
        total = sum(one.card.size_bytes for one in kept)
        while kept and total > self._keep_bytes:
            total -= kept[0].card.size_bytes
            gone.append(kept.pop(0).digest)
        for digest in gone:
            self._store.delete_card(digest)
            self._catalog.drop_holder(HUB, digest)
        if gone:
            self._store.sweep()
