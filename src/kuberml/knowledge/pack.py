"""From a value to signed knowledge and back: the one way in and the one way out.

`make` packs, cuts and signs. `open_value` checks limits, signature, sizes and digests before a kind reads a byte, and the
kind then checks what it reads. Nothing from a package is executed, and what fails leaves no trace.
"""

from __future__ import annotations

from typing import Any

import msgspec

import kuberml.knowledge.kinds  # noqa: F401 - registers the built-in kinds
from kuberml.core.errors import ConfigError, KuberError, RemoteError
from kuberml.core.ids import Digest, check_digest
from kuberml.knowledge.card import PPM, SCHEMA, Card, Claim, Knowledge, SignedCard, Terms, encode_card
from kuberml.knowledge.checks import MAX_NAME_CHARS
from kuberml.knowledge.kind import KINDS, Kind
from kuberml.knowledge.opened import shared
from kuberml.knowledge.pieces import check_blob, check_piece, check_ref, refer
from kuberml.knowledge.signing import Keys, check_card, sign_card

__all__ = ["Limits", "check_blob", "check_limits", "check_piece", "make", "open_value", "sealed"]


_WITHIN = "within"
"""Under this name a signed card remembers the limits that it was last found to keep, as it remembers its digest."""


class Limits(msgspec.Struct, frozen=True):
    """What a receiver is willing to look at. Sizes in bytes."""

    card_bytes: int = 256 * 1024
    blob_bytes: int = 8 << 30
    blobs: int = 16
    labels: int = 8192
    pieces: int = 4096
    parents: int = 4096


def make(
    kind: str,
    value: Any,
    *,
    keys: Keys,
    task: str,
    slot: str,
    version: int,
    learned_at_ms: int,
    claims: tuple[Claim, ...] = (),
    parents: tuple[Digest, ...] = (),
    terms: Terms = Terms(),  # noqa: B008 - frozen
    using: Kind | None = None,
) -> Knowledge:
    """Pack a value and sign its card.

    Args:
        kind: registered name of the kind.
        value: what the kind packs.
        keys: the author's.
        task: what it is about.
        slot: the named place, among the author's, whose content this replaces.
        version: higher replaces lower.
        learned_at_ms: the author's clock, milliseconds.
        claims: scores on public probes.
        parents: cards that it was made from.
        terms: under which it may be used.
        using: this kind instead of the registered one (with other settings).

    Raises:
        ConfigError: no such kind, the value breaks one of its rules, or the card would break `Limits()`.
    """
    packed = (using or KINDS.get(kind)).pack(value)
    cuts = packed.cuts or ((),) * len(packed.blobs)
    card = Card(
        kind=kind,
        task=task,
        labels=packed.labels,
        basis=packed.basis,
        author=keys.public,
        slot=slot,
        version=version,
        blobs=tuple(refer(blob, ends) for blob, ends in zip(packed.blobs, cuts, strict=True)),
        learned_at_ms=learned_at_ms,
        claims=claims,
        parents=parents,
        flops=packed.flops,
        terms=terms,
        facts=dict(packed.facts),
    )
    return Knowledge(sealed(card, keys), packed.blobs)


def sealed(card: Card, keys: Keys) -> SignedCard:
    """A card, signed. Raises ConfigError: it would break `Limits()`."""
    signed = sign_card(card, keys)
    try:
        check_limits(signed)
    except RemoteError as error:  # the same rules, but here they are the caller's
        raise ConfigError(f"cannot make this package: {error}") from error
    return signed


def open_value(
    knowledge: Knowledge,
    *,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    basis: Digest | None = None,
    using: Kind | None = None,
    verified: bool = False,
) -> Any:
    """The value of a package, after every check that needs nothing but the package.

    A kind that is `nested` may come with blobs that end at one of their cuts: the value is then a smaller one.

    Args:
        knowledge: as received.
        limits: what to look at, at most.
        basis: what it must be relative to; None accepts any.
        using: this kind instead of the registered one (with other settings).
        verified: the blobs are whole and what their author signed, since whoever brought them looked at each byte.

    Raises:
        RemoteError: something is wrong, and what.
    """
    card = knowledge.card
    check_limits(knowledge.signed, limits)
    check_card(knowledge.signed)
    if using is None and card.kind not in KINDS:
        raise RemoteError(f"knowledge of kind {card.kind!r}, which is not installed here")
    kind = using or KINDS.get(card.kind)
    if kind.name != card.kind:
        raise RemoteError(f"knowledge of kind {card.kind!r}, not {kind.name!r}")
    if basis is not None and card.basis != basis:
        raise RemoteError(f"relative to {str(card.basis)[:12]}, not to {basis[:12]}")
    if len(knowledge.blobs) != len(card.blobs):
        raise RemoteError(f"{len(knowledge.blobs)} blobs came, the card names {len(card.blobs)}")
    if not verified:
        for ref, blob in zip(card.blobs, knowledge.blobs, strict=True):
            check_blob(ref, blob, prefix=getattr(kind, "nested", False))
    if using is not None:
        return _unpack(kind, card, knowledge.blobs)
    return shared(card.digest, knowledge.blobs, lambda: _unpack(kind, card, knowledge.blobs))


def _unpack(kind: Kind, card: Card, blobs: tuple[bytes, ...]) -> Any:
    try:
        return kind.unpack(card, blobs)
    except KuberError:
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError, MemoryError, RecursionError) as error:
        # A kind's own checks come first; this net turns what they missed into the one error that the caller handles.
        raise RemoteError(f"not a package of kind {card.kind!r}: {error}") from error


def check_limits(signed: SignedCard, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
    """Check that a card is well formed and within limits. Its signature is not looked at.

    Raises:
        RemoteError: it is not, and what is wrong.
    """
    if signed.__dict__.get(_WITHIN) != limits:  # cards are frozen: what holds of one goes on to hold
        _check_limits(signed, limits)
        signed.__dict__[_WITHIN] = limits


def _check_limits(signed: SignedCard, limits: Limits) -> None:
    card = signed.card
    if card.schema != SCHEMA:
        raise RemoteError(f"a card of schema {card.schema!r:.40}, not {SCHEMA!r}")
    for what, count, most in (
        ("blobs", len(card.blobs), limits.blobs),
        ("labels", len(card.labels), limits.labels),
        ("parents", len(card.parents), limits.parents),
        ("pieces", sum(len(ref.cuts) for ref in card.blobs), limits.pieces),
        ("bytes in its largest blob", max((ref.size_bytes for ref in card.blobs), default=0), limits.blob_bytes),
        ("bytes", len(encode_card(signed)), limits.card_bytes),
    ):
        if count > most:
            raise RemoteError(f"a card with {count} {what} is over the limit of {most}")
    _check_names(card)
    for ref in card.blobs:
        check_ref(ref)
    for number in (card.version, card.learned_at_ms, card.flops, *card.labels.values()):
        if number < 0:
            raise RemoteError(f"a card with the negative number {number}")
    for number in (ppm for claim in card.claims for ppm in claim.recall_ppm.values()):
        if not 0 <= number <= PPM:
            raise RemoteError(f"a card that claims a recall of {number} parts per million")


def _check_names(card: Card) -> None:
    for name in (card.kind, card.task, card.slot, *card.labels):
        if not 0 < len(name) <= MAX_NAME_CHARS:
            raise RemoteError(f"kind, task, slot and labels have 1 to {MAX_NAME_CHARS} characters, not {name!r:.40}")
    bases = () if card.basis is None else (card.basis,)
    for digest in (*bases, *card.parents, card.author, *(ref.digest for ref in card.blobs), *(c.probe for c in card.claims)):
        check_digest(digest)  # an Ed25519 public key has the form of a digest
