"""The giving side of linked hubs, and the agreements that a hub's folder holds. See `linking`."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from pathlib import Path

import msgspec

from kuberml.core.errors import KuberError, RemoteError, Unreachable
from kuberml.core.ids import Digest, NodeId
from kuberml.core.seam import Store
from kuberml.exchange import wire
from kuberml.knowledge.card import SignedCard
from kuberml.knowledge.verdict import SignedVerdict
from kuberml.knowledge.withdrawal import SignedWithdrawal
from kuberml.vault.catalog import Catalog
from kuberml.worlds.live.names import HUB
from kuberml.worlds.live.transport import LiveTransport
from kuberml.worlds.live.trust.agreement import Agreement, SignedAgreement, read_agreement

FOLDER, SUFFIX, AGREEMENTS_MAX = "agreements", ".agreement", 256
PAGE, RANGE_MAX_BYTES, LOG_MAX = 16, 1 << 20, 100_000
LINK = "link-"
"""What the holders' names of mirrored cards begin with."""

log = logging.getLogger("kuberml.live")


class LinkAsk(msgspec.Struct, frozen=True):
    """Request `linked`: what is new since place `since` of that era?"""

    era: str = ""
    since: int = 0


class LinkNews(msgspec.Struct, frozen=True):
    """What may pass, a page of it. Ask next with `era` and `since`; `is_all`: there is no more now."""

    era: str
    since: int
    is_all: bool
    cards: tuple[SignedCard, ...] = ()
    withdrawals: tuple[SignedWithdrawal, ...] = ()


class LinkRead(msgspec.Struct, frozen=True):
    """Request `linked_read`: bytes start..stop of a blob of a card; at most RANGE_MAX_BYTES."""

    card: Digest
    blob: Digest
    start: int
    stop: int


class Agreements:
    """Those in a hub's folder that hold now."""

    def __init__(self, folder: Path, owner: str, now_ms: Callable[[], int]) -> None:
        """`owner`: of the hub's realm. `now_ms`: a clock."""
        self.folder, self.owner, self.now_ms = folder, owner, now_ms
        self._read: dict[tuple[Path, int], SignedAgreement] = {}
        self.holding: dict[Path, Agreement] = {}
        self.look()

    def look(self) -> None:
        """See what has come, changed, ended or gone."""
        seen: dict[tuple[Path, int], SignedAgreement] = {}
        for path in sorted((self.folder / FOLDER).glob(f"*{SUFFIX}"))[:AGREEMENTS_MAX]:
            try:
                stamp = (path, path.stat().st_mtime_ns)
                signed = self._read.get(stamp) or read_agreement(path.read_bytes())
                signed.agreement.partner_of(self.owner)
                seen[stamp] = signed
            except (OSError, KuberError) as error:
                log.warning("the agreement %s is not followed: %s", path, error)
        self._read, now_ms = seen, self.now_ms()
        holding = {path: signed.agreement for (path, _), signed in seen.items() if signed.is_complete}
        self.holding = {path: agreement for path, agreement in holding.items() if now_ms < agreement.expires_at_ms}


class Giver:
    """A Watcher of the hub that serves what agreements let pass."""

    def __init__(self, agreements: Agreements, transport: LiveTransport, store: Store, catalog: Catalog) -> None:
        """All of the hub."""
        self._agreements, self._transport, self._store, self._catalog = agreements, transport, store, catalog
        self._begin()
        transport.serve("linked", self._linked)
        transport.serve("linked_read", self._read)

    def announced(self, holder: NodeId, signed: SignedCard, *, is_new: bool) -> None:
        """See `exchange.hub.Watcher`; it passes once it is kept, nobody can read it here before."""

    def kept(self, signed: SignedCard) -> None:
        """See `Keeper.on_kept`."""
        self._note(signed.digest)

    def judged(self, witness: NodeId, signed: SignedVerdict) -> None:
        """See `exchange.hub.Watcher`; verdicts do not pass."""

    def withdrawn(self, signed: SignedWithdrawal, cards: int) -> None:
        """See `exchange.hub.Watcher`: who may have a copy is told, whatever the rules say."""
        self._note(signed)

    def _begin(self) -> None:
        """A new era: its log begins with what is here."""
        self._era = secrets.token_hex(8)
        self._log: list[Digest | SignedWithdrawal] = [signed.digest for signed in self._catalog.cards()]

    def _note(self, item: Digest | SignedWithdrawal) -> None:
        self._log.append(item)
        if len(self._log) > LOG_MAX + 2 * self._catalog.count():
            self._begin()

    def _agreement_with(self, asker: NodeId) -> Agreement:
        presence = self._transport.here.remembered(asker)
        for agreement in self._agreements.holding.values():
            partner = agreement.partner_of(self._agreements.owner)
            if presence is not None and (partner.node, partner.hub) == (asker, presence.key):
                return agreement
        raise RemoteError(f"{asker} is not the hub of anybody that the owner of this realm has an agreement with")

    def _why_not(self, agreement: Agreement, signed: SignedCard | None) -> str | None:
        if signed is None:
            return "it is not in the catalog"
        holders = self._catalog.holders(signed.digest)
        if any(holder.startswith(LINK) for holder in holders):
            return "it came over a link itself"
        if HUB not in holders:
            return "it is not kept here"
        return agreement.why_not(signed.card, agreement.side_of(self._agreements.owner), self._agreements.now_ms())

    async def _linked(self, asker: NodeId, body: bytes) -> bytes:
        agreement, asked = self._agreement_with(asker), wire.read(body, LinkAsk)
        place = asked.since if asked.era == self._era and 0 <= asked.since <= len(self._log) else 0
        cards: list[SignedCard] = []
        gone: list[SignedWithdrawal] = []
        while place < len(self._log) and len(cards) + len(gone) < PAGE:
            item = self._log[place]
            place += 1
            if isinstance(item, SignedWithdrawal):
                gone.append(item)
            elif (signed := self._catalog.card(item)) is not None and self._why_not(agreement, signed) is None:
                cards.append(signed)
        is_all = place == len(self._log)
        return wire.write(LinkNews(self._era, place, is_all, tuple(cards), tuple(gone)))

    async def _read(self, asker: NodeId, body: bytes) -> bytes:
        agreement, asked = self._agreement_with(asker), wire.read(body, LinkRead)
        signed = self._catalog.card(asked.card)
        why = self._why_not(agreement, signed)
        if why is not None or signed is None:
            raise RemoteError(f"{asked.card[:12]} does not pass: {why}")
        if asked.blob not in [ref.digest for ref in signed.card.blobs] or not 0 <= asked.stop - asked.start <= RANGE_MAX_BYTES:
            raise RemoteError(f"a card's own blobs are read, at most {RANGE_MAX_BYTES} bytes at a time")
        try:
            return self._store.read(asked.blob, asked.start, asked.stop)
        except KeyError as error:
            raise Unreachable(f"{asked.blob[:12]} is not here yet") from error
        except ValueError as error:
            raise RemoteError(str(error)) from error
