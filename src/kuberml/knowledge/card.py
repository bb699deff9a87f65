"""The card: what a piece of knowledge is, what it claims, what it costs, and who says so.

A card's digest is the BLAKE3 of its canonical *unsigned* body under a domain prefix; the Ed25519 signature covers that
digest. Cards hold no floats: scores are parts per million, sizes are bytes, times are milliseconds.
"""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from kuberml.core import canonical
from kuberml.core.errors import RemoteError
from kuberml.core.ids import Digest, LabelId, digest_of

SCHEMA = "kuberml.card/1"
DOMAIN = b"kuberml.card/1\0"
CONTENT_DOMAIN = b"kuberml.content/1\0"
PPM = 1_000_000
"""Scores are integers from 0 to PPM."""

Fact = int | str | bool
"""What a kind may say about itself in `Card.facts`."""


class BlobRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One blob: its digest, its size, and the pieces in which it can be verified while it streams.

    Piece i is bytes cuts[i-1] .. cuts[i] (cuts[-1] is size_bytes); its 32-byte BLAKE3 is pieces[32*i : 32*i + 32].
    A nested packet is cut where a byte prefix is a smaller packet.
    """

    digest: Digest
    size_bytes: int
    cuts: tuple[int, ...]
    pieces: bytes


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the author says this knowledge scores on a named public probe; anyone can run it again.

    `recall_ppm` is per label: of the probe's samples of that label, the share answered correctly, in parts per million.
    """

    probe: Digest
    recall_ppm: dict[LabelId, int]


class Terms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Under what terms it may be used; enforced at find, fetch and absorb. Empty means: no restriction of that sort."""

    licence: str = ""
    purposes: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    expires_at_ms: int | None = None


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """The unsigned body. See the field comments; `knowledge.pack` fills it in."""

    kind: str  # name of the kind, for instance "statistics"
    task: str  # what it is about, for instance "digits"
    labels: dict[LabelId, int]  # samples behind each label (what was withheld is not in here)
    basis: Digest | None  # the extractor, base model or probe that it is relative to
    author: str  # Ed25519 public key, 64 hex characters
    slot: str  # the named place whose content this replaces
    version: int  # within (author, slot); higher replaces lower
    blobs: tuple[BlobRef, ...]
    learned_at_ms: int  # the author's clock when it was learned
    claims: tuple[Claim, ...] = ()
    parents: tuple[Digest, ...] = ()  # cards that this was made from
    flops: int = 0  # to take it in
    terms: Terms = Terms()
    facts: dict[str, Fact] = {}  # of the kind
    schema: str = SCHEMA

    @property
    def size_bytes(self) -> int:
        """Bytes of all blobs."""
        return sum(blob.size_bytes for blob in self.blobs)

    @functools.cached_property
    def digest(self) -> Digest:
        """The identity of this knowledge: BLAKE3 of the domain prefix and the canonical body.

        Reckoned once: cards are frozen.
        """
        return digest_of(DOMAIN + canonical.encode(self))

    @functools.cached_property
    def content(self) -> Digest:
        """What it is, whoever signed it: digest of kind, basis, labels with counts, facts and blobs. Reckoned once."""
        blobs = [ref.digest for ref in self.blobs]
        return digest_of(CONTENT_DOMAIN + canonical.encode([self.kind, self.basis, self.labels, self.facts, blobs]))


class SignedCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """A card and its author's Ed25519 signature over DOMAIN + digest. What travels and what a catalog keeps."""

    card: Card
    signature: bytes

    @property
    def digest(self) -> Digest:
        """Digest of the card (the signature is not part of it)."""
        return self.card.digest

    @functools.cached_property
    def encoded(self) -> bytes:
        """The canonical bytes."""
        return canonical.encode(self)


class Knowledge(msgspec.Struct, frozen=True):
    """A value: the signed card and its blobs, in the card's order."""

    signed: SignedCard
    blobs: tuple[bytes, ...]

    @property
    def card(self) -> Card:
        """The unsigned body."""
        return self.signed.card


def encode_card(signed: SignedCard) -> bytes:
    """The canonical bytes of a signed card."""
    return signed.encoded


def decode_card(data: bytes, *, limit_bytes: int = 256 * 1024) -> SignedCard:
    """A signed card from bytes. The signature is *not* checked here: see `signing.check_card`.

    Raises:
        RemoteError: longer than limit_bytes, not canonical, or not a card.
    """
    if len(data) > limit_bytes:
        raise RemoteError(f"a card of {len(data)} bytes is over the limit of {limit_bytes}")
    plain: Any = canonical.decode(data)
    try:
        return msgspec.convert(plain, SignedCard, builtin_types=(bytes,))
    except (msgspec.ValidationError, OverflowError) as error:
        raise RemoteError(f"not a card: {error}") from error
