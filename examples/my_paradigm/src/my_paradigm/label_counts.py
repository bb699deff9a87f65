"""Kind `label-counts`: how many samples of each label somebody has, and nothing else."""

from typing import Any

import msgspec

from kuberml.core import canonical
from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.values import value
from kuberml.knowledge.card import Card
from kuberml.knowledge.kind import Packed


@value
class LabelCounts(msgspec.Struct, frozen=True):
    """Samples of each label, 1 or more."""

    counts: dict[str, int]


class LabelCountsKind:
    """See `kuberml.knowledge.kind.Kind`."""

    name = "label-counts"

    def pack(self, value: LabelCounts) -> Packed:
        """Raises ConfigError: a label without samples."""
        if not value.counts or min(value.counts.values()) < 1:
            raise ConfigError(f"counts = {value.counts}: each label that is named has samples")
        return Packed((canonical.encode(value.counts),), value.counts)

    def unpack(self, card: Card, blobs: tuple[bytes, ...]) -> LabelCounts:
        """Raises RemoteError: the blob is not the counts that the card names."""
        found: Any = canonical.decode(blobs[0]) if len(blobs) == 1 else None
        if found != card.labels or not found or min(found.values()) < 1:
            raise RemoteError("the counts are not those of the card")
        return LabelCounts(found)


KIND = LabelCountsKind()
