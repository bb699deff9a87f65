"""Which versions of a slot stay: the newest `keep`. What is displaced is forgotten, then its blobs are swept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from kuberml.core.errors import ConfigError
from kuberml.core.ids import Digest
from kuberml.core.seam import Store
from kuberml.knowledge.card import Card, decode_card


def displaced(cards: Iterable[Card], *, keep: int = 1) -> tuple[Digest, ...]:
    """Digests of the cards that newer versions of their (author, slot) displace, sorted.

    Should an author have signed two cards of one version, the smaller digest counts as the newer, so that the answer does
    not depend on the order of arrival.

    Args:
        cards: any cards, in any order; the same one twice counts once.
        keep: versions that stay in each slot, > 0.

    Raises:
        ConfigError: keep is not above 0.
    """
    if keep < 1:
        raise ConfigError(f"keep must be 1 or more versions, not {keep!r}")
    slots: defaultdict[tuple[str, str], set[tuple[int, Digest]]] = defaultdict(set)
    for card in cards:
        slots[card.author, card.slot].add((-card.version, card.digest))
    return tuple(sorted(digest for versions in slots.values() for _, digest in sorted(versions)[keep:]))


def retire(store: Store, *, keep: int = 1) -> tuple[Digest, ...]:
    """Forget the displaced cards of a store, and return their digests. Their blobs wait for a sweep: others may need them."""
    gone = displaced((decode_card(store.card(digest)).card for digest in store.cards()), keep=keep)
    for digest in gone:
        store.delete_card(digest)
    return gone
