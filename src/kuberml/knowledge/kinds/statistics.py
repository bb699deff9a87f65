"""Kind `statistics`: what somebody's data say about a linear head on a frozen extractor. Adds and subtracts exactly.

The card has labels with counts, the extractor as basis, and `Facts`. Blob 0 is the columns (`knowledge.columns`): a byte prefix
that ends at a cut is a smaller packet. A merge has as blob 1 the manifest of the contributions in it (`knowledge.manifest`).

The values, functions and laws live in `moments` (describe), `algebra` (merge, remove, prefix), `ridge` (solve) and
`screening` (checks on arrival), and are re-exported here.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec
import numpy as np

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import Digest
from kuberml.core.values import value
from kuberml.knowledge.algebra import merge, merge_all, prefix, remove
from kuberml.knowledge.card import Card
from kuberml.knowledge.checks import Fault, check_labels, read_facts
from kuberml.knowledge.columns import Coding, cut_dims, decode, encode
from kuberml.knowledge.grid import Grid
from kuberml.knowledge.kind import Packed
from kuberml.knowledge.manifest import Contribution, add_counts, decode_manifest, encode_manifest
from kuberml.knowledge.moments import Profile, Statistics, describe, empty, to_fp16
from kuberml.knowledge.ridge import Head, solve
from kuberml.knowledge.screening import check_frame, check_scatter
from kuberml.knowledge.withholding import MIN_CLASS_COUNT, check_counts

__all__ = [
    "Head",
    "Merged",
    "Statistics",
    "StatisticsKind",
    "cut_dims",
    "describe",
    "empty",
    "merge",
    "merge_all",
    "prefix",
    "remove",
    "solve",
    "sums_of",
    "to_fp16",
]

DIMS_MAX = 16384
"""A Gram matrix of this side is 2 GiB."""


@value
class Merged(msgspec.Struct, frozen=True, eq=False, weakref=True):
    """The sum of several contributions, and which: what a hub publishes. Opens from a package with a manifest."""

    KIND: ClassVar[str] = "statistics"
    statistics: Statistics
    contributions: tuple[Contribution, ...]


class Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the card says: see `Statistics` and, for coding, `columns`; constituents: contributions of a merge, else 0."""

    dims: int
    step_log2: int
    clip: int
    profile: Profile
    coding: Coding
    constituents: int = 0


class StatisticsKind:
    """Packs `Statistics`, or `Merged` for a sum that is published."""

    name = "statistics"
    nested = True

    def __init__(self, min_class_count: int = MIN_CLASS_COUNT) -> None:
        """`min_class_count`: least samples per label and contributor, both in what is packed and in what is opened."""
        self.min_class_count = min_class_count

    def pack(self, value: Statistics | Merged) -> Packed:
        """Columns, and the manifest of a merge.

        Raises:
            ConfigError: no samples, a label below the minimum count, or counts that are not those of the contributions.
        """
        stats = sums_of(value)
        if not stats.samples:
            raise ConfigError("statistics of no samples: there is nothing to publish")
        check_labels(stats.counts, ConfigError)
        check_counts(stats.counts, self.min_class_count, ConfigError)
        blob, cuts, coding = encode(stats)
        facts = Facts(stats.dims, stats.step_log2, stats.clip, stats.profile, coding)
        flops = (stats.dims + 1) ** 3  # the solve
        if not isinstance(value, Merged):
            return Packed((blob,), stats.counts, stats.basis, msgspec.to_builtins(facts), (cuts,), flops)
        self._check_contributions(value.contributions, stats, ConfigError)
        manifest = encode_manifest(value.contributions)
        facts = msgspec.structs.replace(facts, constituents=len(value.contributions))
        return Packed((blob, manifest), stats.counts, stats.basis, msgspec.to_builtins(facts), (cuts, ()), flops)

    def unpack(self, card: Card, blobs: tuple[bytes, ...]) -> Statistics | Merged:
        """The statistics, of fewer dimensions if blob 0 ends at a cut. Checks all of `screening` that one packet allows.

        Raises:
            RemoteError: something is wrong, and what.
        """
        facts = _facts(card)
        if len(blobs) != (2 if facts.constituents else 1):
            raise RemoteError(f"statistics of {facts.constituents} constituents do not have {len(blobs)} blobs")
        check_labels(card.labels, RemoteError)
        check_counts(card.labels, self.min_class_count, RemoteError)
        frame = _frame(card, facts)
        check_frame(frame)
        stats = _fixed(decode(blobs[0], frame, facts.dims, facts.coding))
        if bytes_at(card).get(stats.dims) != len(blobs[0]):
            raise RemoteError(f"{len(blobs[0])} bytes hold {stats.dims} of {facts.dims} dimensions: the cuts are wrong")
        check_scatter(stats)
        if not facts.constituents:
            return stats
        contributions = decode_manifest(blobs[1])
        if len(contributions) != facts.constituents:
            raise RemoteError(f"the card says {facts.constituents} constituents, the manifest {len(contributions)}")
        self._check_contributions(contributions, stats, RemoteError)
        return Merged(stats, contributions)

    def _check_contributions(self, contributions: tuple[Contribution, ...], stats: Statistics, fault: Fault) -> None:
        for each in contributions:
            check_counts(each.counts, self.min_class_count, fault)
        if add_counts(contributions) != stats.counts:
            raise fault("the counts of a merge are not the sum of its contributions' counts")


def reopened(card: Card, blob: bytes) -> Statistics:
    """A single packet that `unpack` has checked before, as it lies in one's own store under its digest: without the d^3 test.

    Raises:
        RemoteError: it is not all of a single packet.
    """
    facts = _facts(card)
    if facts.constituents or len(blob) != card.blobs[0].size_bytes:
        raise RemoteError("not all of a single packet")
    return decode(blob, _frame(card, facts), facts.dims, facts.coding)


def _fixed(stats: Statistics) -> Statistics:
    """The same, and nobody can change it: it may be shared."""
    for array in (stats.counts_C, stats.sums_dC, stats.gram_dd):
        array.flags.writeable = False
    return stats


def sums_of(value: Statistics | Merged) -> Statistics:
    """The statistics of either value."""
    return value.statistics if isinstance(value, Merged) else value


def bytes_at(card: Card) -> dict[int, int]:
    """What a reader may fetch: bytes of blob 0 by number of dimensions, rising.

    Raises:
        RemoteError: the card's cuts or facts are not those of statistics.
    """
    dims = cut_dims(_facts(card).dims)
    if not card.blobs or len(dims) != len(card.blobs[0].cuts):
        raise RemoteError("the cuts of these statistics are not those of their dimensions")
    return dict(zip(dims, card.blobs[0].cuts, strict=True))


def _facts(card: Card) -> Facts:
    facts = read_facts(card, Facts)
    if not 1 <= facts.dims <= DIMS_MAX or facts.constituents < 0 or not card.blobs:
        raise RemoteError(f"statistics have 1 to {DIMS_MAX} dimensions and a blob, not {facts.dims} and {len(card.blobs)}")
    try:
        Grid(facts.step_log2, facts.clip)
    except ConfigError as error:
        raise RemoteError(f"facts of statistics: {error}") from error
    if facts.coding == "fp16" and facts.profile != "fp16":
        raise RemoteError("coding fp16 belongs to the profile fp16")
    return facts


def _frame(card: Card, facts: Facts) -> Statistics:
    """Everything but the sums."""
    if card.basis is None:
        raise RemoteError("statistics name the extractor as their basis")
    labels = tuple(sorted(card.labels))
    counts_C = np.array([card.labels[label] for label in labels], dtype=np.int64)
    nothing = np.zeros((0, 0), np.int64)
    return Statistics(labels, counts_C, nothing, nothing, Digest(card.basis), facts.step_log2, facts.clip, facts.profile)
