"""Kind `sealed`: numbers that say nothing by themselves: masked updates, public keys, encrypted shares of secrets.

Named arrays of whole numbers without a sign. What they mean and whether they fit, the protocol that they belong to knows.
"""

from __future__ import annotations

import msgspec

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.values import value
from kuberml.knowledge import tensors as wire_tensors
from kuberml.knowledge.card import Card
from kuberml.knowledge.checks import only_blob, read_facts
from kuberml.knowledge.kind import Packed
from kuberml.knowledge.tensors import AnyArray

DTYPES = ("uint8", "uint32")


@value
class Sealed(msgspec.Struct, frozen=True, eq=False):
    """Arrays by name, one or more, uint8 or uint32. No labels: how many samples stand behind a masked update is masked too."""

    arrays: dict[str, AnyArray]


class _Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class SealedKind:
    """See `Kind`. One blob: the arrays, not compressed (masked numbers cannot be)."""

    name = "sealed"

    def pack(self, value: Sealed) -> Packed:
        """Raises ConfigError: no array, or a dtype that does not travel."""
        if not value.arrays:
            raise ConfigError("sealed without an array")
        return Packed((wire_tensors.encode(value.arrays, dtypes=DTYPES),), {})

    def unpack(self, card: Card, blobs: tuple[bytes, ...]) -> Sealed:
        """Raises RemoteError: damaged arrays, none at all, or facts or labels on the card."""
        read_facts(card, _Facts)
        if card.labels or card.basis is not None:
            raise RemoteError("a sealed package tells of labels or a basis")
        arrays = wire_tensors.decode(only_blob(card, blobs, wire_tensors.MAX_BYTES), dtypes=DTYPES)
        if not arrays:
            raise RemoteError("sealed without an array")
        return Sealed(arrays)
