"""Agreements: two owners let some knowledge pass between their hubs. Both sign; both sides check every card by it.

An agreement names both realms by their owners' keys, both hubs by theirs, and says by rules what may pass from which side. What
no rule names does not pass, and what came over one agreement does not leave over another: there is no transit.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from kuberml.core import canonical
from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import Digest, NodeId, check_digest, check_node, digest_of
from kuberml.knowledge.card import Card
from kuberml.knowledge.signing import Keys, check_signature
from kuberml.knowledge.terms import allowed

DOMAIN = b"kuberml.agreement/1\0"
SIZE_MAX_BYTES, RULES_MAX, NAMES_MAX, NAME_MAX_CHARS = 64 * 1024, 64, 64, 256
Side = Literal["first", "second"]


class Party(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One side: its realm, its owner's key, its hub's key, and where others may dial the hub ("": nowhere, it dials out)."""

    realm: str
    owner: str
    hub: str
    address: str = ""

    @property
    def node(self) -> NodeId:
        """What its hub is called in the other realm."""
        return NodeId(f"hub-{self.owner[:16]}")


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may pass from one side. () allows any.

    Attributes:
        source: whose knowledge.
        tasks, kinds, licences: which; a card must be of one of each that is named.
        purposes: what the receivers use it for; a card whose terms name purposes must allow one of these.
        region: where the receivers are; a card's terms may forbid it.
        size_max_bytes: of all blobs of a card.
    """

    source: Side
    tasks: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()
    purposes: tuple[str, ...] = ()
    region: str = ""
    size_max_bytes: int = 1 << 30


class Agreement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What both owners sign."""

    first: Party
    second: Party
    rules: tuple[Rule, ...]
    made_at_ms: int
    expires_at_ms: int

    @property
    def digest(self) -> Digest:
        """Its identity: BLAKE3 of the domain prefix and the canonical body."""
        return digest_of(DOMAIN + canonical.encode(self))

    def side_of(self, owner: str) -> Side:
        """Which side an owner is. Raises ConfigError: neither."""
        if owner not in (self.first.owner, self.second.owner):
            raise ConfigError(f"the agreement is between {self.first.owner[:12]}... and {self.second.owner[:12]}...")
        return "first" if owner == self.first.owner else "second"

    def partner_of(self, owner: str) -> Party:
        """The other side. Raises ConfigError: `owner` is neither."""
        return self.second if self.side_of(owner) == "first" else self.first

    def why_not(self, card: Card, source: Side, now_ms: int) -> str | None:
        """Why a card of one side may not pass to the other; None if it may. `now_ms`: the checker's clock."""
        if now_ms >= self.expires_at_ms:
            return f"the agreement ended at {self.expires_at_ms} ms"
        reasons = [_against(rule, card, now_ms) for rule in self.rules if rule.source == source]
        return None if None in reasons else "; ".join(map(str, reasons)) or f"nothing passes from the {source} side"


class SignedAgreement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An agreement with the signatures that it has so far; it holds once it has both."""

    agreement: Agreement
    first_signature: bytes = b""
    second_signature: bytes = b""

    @property
    def is_complete(self) -> bool:
        """Whether both have signed."""
        return bool(self.first_signature and self.second_signature)


def signed_by(signed: SignedAgreement, owner: Keys) -> SignedAgreement:
    """The same with one signature more. Raises ConfigError: `owner` is no party, or the agreement cannot be."""
    side = signed.agreement.side_of(owner.public)
    signature = owner.sign(DOMAIN, signed.agreement.digest.encode())
    after = msgspec.structs.replace(signed, **{f"{side}_signature": signature})
    try:
        return read_agreement(canonical.encode(after))
    except RemoteError as error:
        raise ConfigError(f"not an agreement that the other side would take: {error}") from error


def read_agreement(data: bytes) -> SignedAgreement:
    """An agreement from bytes, its form, bounds and the signatures that it has checked.

    Raises:
        RemoteError: one of them fails. A missing signature is none that fails: see `is_complete`.
    """
    if len(data) > SIZE_MAX_BYTES:
        raise RemoteError(f"an agreement of {len(data)} bytes; at most {SIZE_MAX_BYTES} are read")
    plain: Any = canonical.decode(data)
    try:
        signed = msgspec.convert(plain, SignedAgreement, builtin_types=(bytes,))
    except (msgspec.ValidationError, OverflowError) as error:
        raise RemoteError(f"not an agreement: {error}") from error
    agreement = signed.agreement
    _check_bounds(agreement)
    for party, signature in ((agreement.first, signed.first_signature), (agreement.second, signed.second_signature)):
        if signature:
            check_signature(party.owner, DOMAIN, agreement.digest.encode(), signature)
    return signed


def _check_bounds(agreement: Agreement) -> None:
    for party in (agreement.first, agreement.second):
        check_node(party.realm)
        check_digest(party.owner)
        check_digest(party.hub)
        if len(party.address) > NAME_MAX_CHARS:
            raise RemoteError("a hub's address has at most 256 characters")
    if agreement.first.owner == agreement.second.owner or agreement.first.hub == agreement.second.hub:
        raise RemoteError("an agreement is between two owners and two hubs")
    if not 0 <= agreement.made_at_ms < agreement.expires_at_ms:
        raise RemoteError("an agreement ends after it was made")
    if not 1 <= len(agreement.rules) <= RULES_MAX:
        raise RemoteError(f"an agreement has 1 to {RULES_MAX} rules, not {len(agreement.rules)}")
    for rule in agreement.rules:
        lists = (rule.tasks, rule.kinds, rule.licences, rule.purposes)
        longest = max((len(name) for names in (*lists, (rule.region,)) for name in names), default=0)
        if max(map(len, lists)) > NAMES_MAX or longest > NAME_MAX_CHARS or rule.size_max_bytes < 1:
            raise RemoteError(f"a rule has at most {NAMES_MAX} names of {NAME_MAX_CHARS} characters and lets a byte pass")


def _against(rule: Rule, card: Card, now_ms: int) -> str | None:
    for what, said, named in (
        ("task", card.task, rule.tasks),
        ("kind", card.kind, rule.kinds),
        ("licence", card.terms.licence, rule.licences),
    ):
        if named and said not in named:
            return f"its {what} is {said!r:.80}, not one of {', '.join(named)[:200]}"
    if card.size_bytes > rule.size_max_bytes:
        return f"it has {card.size_bytes} bytes, and {rule.size_max_bytes} may pass"
    whys = [allowed(card.terms, purpose=purpose, region=rule.region, now_ms=now_ms) for purpose in rule.purposes or ("",)]
    return None if None in whys else whys[0]
