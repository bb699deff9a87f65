"""The model of any version from a cloud's store alone: nothing has to run."""

from __future__ import annotations

from kuberml.core.errors import ConfigError, InternalError
from kuberml.core.ids import Digest
from kuberml.core.seam import Store
from kuberml.exchange.continual.history import History
from kuberml.exchange.continual.trying import Part, Sealed, tried
from kuberml.exchange.memory import Memory
from kuberml.knowledge.card import decode_card
from kuberml.knowledge.ridge import Head


def served_before(store: Store, manifest: str) -> Head:
    """The head of the version whose manifest begins so.

    Raises:
        ConfigError: no such version, several, or one that was learned further than the sums of its packets.
        InternalError: a packet is gone, or the packets do not come to what was served.
    """
    history = History(Memory(store))
    entry = history.version(Digest(manifest))
    if entry.recipe is not None:
        raise ConfigError(
            f"version {entry.number} was learned further from its packets: only the exact head is made again here"
        )
    cards = [history.packet(content).card for content in sorted(history.contents(entry.number))]
    try:
        packets = [_sealed(store, card) for card in cards]
    except KeyError as error:
        raise InternalError(f"version {entry.number}: a packet is not in the store any more: {error}") from error
    found = tried(0, None, packets, [], entry.ridge, None)
    if found.digest != entry.sums:
        raise InternalError(f"version {entry.number}: its packets come to {found.digest[:12]}, served were {entry.sums[:12]}")
    return found.head


def _sealed(store: Store, card: Digest) -> Part:
    encoded = store.card(card)
    return Sealed(encoded, store.get(decode_card(encoded).card.blobs[0].digest))
