"""A value over the wire and back, without pieces and signatures: what the tests of single kinds need."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from kuberml.core import values
from kuberml.core.errors import RemoteError
from kuberml.core.ids import digest_of
from kuberml.knowledge.card import BlobRef, Card
from kuberml.knowledge.kind import KINDS, Packed
from kuberml.knowledge.kinds import __name__ as _registered  # noqa: F401 - registers the kinds

AUTHOR = "ab" * 32


def card_of(kind: str, packed: Packed) -> Card:
    refs = tuple(BlobRef(digest_of(blob), len(blob), (len(blob),), b"") for blob in packed.blobs)
    facts = dict(packed.facts)
    return Card(kind, "task", dict(packed.labels), packed.basis, AUTHOR, "slot", 0, refs, 0, facts=facts)


def sent(kind: str, value: Any) -> tuple[Card, tuple[bytes, ...]]:
    packed = KINDS.get(kind).pack(value)
    return card_of(kind, packed), packed.blobs


def received(kind: str, card: Card, blobs: tuple[bytes, ...]) -> Any:
    return KINDS.get(kind).unpack(card, blobs)


def there_and_back(kind: str, value: Any) -> Any:
    """The received value, after checking that it is bit for bit the sent one and that equal values give equal bytes."""
    card, blobs = sent(kind, value)
    back = received(kind, card, blobs)
    assert values.dumps(back) == values.dumps(value)
    assert sent(kind, back) == (card, blobs)
    return back


def refused(kind: str, card: Card, *blobs: bytes, match: str | None = None) -> None:
    with pytest.raises(RemoteError, match=match):
        received(kind, card, blobs)


def resized(blob: bytes) -> Iterator[bytes]:
    """Cut short, continued, empty."""
    yield from (b"", blob[:1], blob[: len(blob) // 2], blob[:-1], blob + b"\0", blob + blob)


def scrambled(blob: bytes) -> Iterator[bytes]:
    """Of the right size, with a damaged head or turned around: what has a structure notices."""
    yield from (b"\xff" * 8 + blob[8:], blob[::-1])


def survives_damage(kind: str, value: Any, *, structured: bool = True) -> None:
    """Every damage that changes the structure is a RemoteError, and so are missing and surplus blobs and wrong facts."""
    card, (blob, *_) = sent(kind, value)
    for bad in (*resized(blob), *(scrambled(blob) if structured else ())):
        refused(kind, card, bad)
    refused(kind, card)
    refused(kind, card, blob, blob)
    refused(kind, msgspec.structs.replace(card, facts={**card.facts, "surplus": 1}), blob)
    for name, fact in card.facts.items():
        others = {key: other for key, other in card.facts.items() if key != name}
        refused(kind, msgspec.structs.replace(card, facts=others), blob)
        wrong = 1 if isinstance(fact, str) else "one"
        refused(kind, msgspec.structs.replace(card, facts={**others, name: wrong}), blob)


def flipped(kind: str, value: Any, positions: list[int], accept: Callable[[Any], None]) -> None:
    """One flipped bit gives a RemoteError or a value that `accept` finds well-formed: never another error."""
    card, (blob,) = sent(kind, value)
    for position in positions:
        at = position % (8 * len(blob))
        bad = bytearray(blob)
        bad[at // 8] ^= 1 << (at % 8)
        try:
            back = received(kind, card, (bytes(bad),))
        except RemoteError:
            continue
        accept(back)
