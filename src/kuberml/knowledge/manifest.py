"""Whose data stand behind a package, named so that nobody's counts twice.

A contribution is one author's packet in one slot. Its identity is the `content` of its card, a digest without the
author, so a copy that somebody else signed is the same contribution. A merge carries the list of the contributions in it, down
to single authors, as its second blob.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kuberml.core import canonical
from kuberml.core.errors import ConfigError, RemoteError
from kuberml.core.ids import Digest, LabelId, check_digest
from kuberml.core.values import value
from kuberml.knowledge.card import Card

MANIFEST = "constituents"
"""The fact that says how many contributions a merge holds; absent from a single author's packet."""


@value
class Contribution(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One author's packet in one slot.

    Attributes:
        author: public key; slot: the shard of the author's data; version: the higher replaces the lower.
        content: what it is, whoever signed it.
        counts: samples of each label.
    """

    author: str
    slot: str
    version: int
    content: Digest
    counts: dict[LabelId, int]

    @property
    def place(self) -> tuple[str, str]:
        """(author, slot): at most one version of it counts."""
        return self.author, self.slot


def single(card: Card) -> Contribution:
    """The contribution that a package of one author is."""
    return Contribution(card.author, card.slot, card.version, card.content, dict(card.labels))


def encode_manifest(contributions: Iterable[Contribution]) -> bytes:
    """The blob of a merge's contributions, in order of author and slot.

    Raises:
        ConfigError: an author's slot twice, or a content with two different counts.
    """
    ordered = sorted(contributions, key=lambda each: each.place)
    try:
        check_contributions(ordered)
    except RemoteError as error:
        raise ConfigError(str(error)) from error
    return canonical.encode(ordered)


def decode_manifest(data: bytes) -> tuple[Contribution, ...]:
    """The contributions of a merge.

    Raises:
        RemoteError: not a manifest: not canonical, unsorted, an author's slot twice, a content with two counts.
    """
    plain = canonical.decode(data)
    try:
        contributions = msgspec.convert(plain, tuple[Contribution, ...])
    except (msgspec.ValidationError, OverflowError) as error:
        raise RemoteError(f"not a manifest: {error}") from error
    if list(contributions) != sorted(contributions, key=lambda each: each.place):
        raise RemoteError("a manifest is sorted by author and slot")
    check_contributions(contributions)
    return contributions


def add_counts(contributions: Iterable[Contribution]) -> dict[LabelId, int]:
    """Samples of each label over all of them, each content once, sorted by label."""
    total: dict[LabelId, int] = {}
    for each in {each.content: each for each in contributions}.values():
        for label, count in each.counts.items():
            total[label] = total.get(label, 0) + count
    return dict(sorted(total.items()))


def check_contributions(contributions: Iterable[Contribution]) -> None:
    """Check that contributions can stand side by side.

    Raises:
        RemoteError: an author's slot is named twice, a content has two different counts, or something is malformed.
    """
    every = list(contributions)
    if len({each.place for each in every}) != len(every):
        raise RemoteError("a manifest names an author's slot twice")
    counts: dict[Digest, dict[LabelId, int]] = {}
    for each in every:
        check_digest(each.author)
        check_digest(each.content)
        if each.version < 0 or min(each.counts.values(), default=0) < 1:
            raise RemoteError(f"a contribution with version {each.version} and counts {each.counts!r:.60}")
        if counts.setdefault(each.content, each.counts) != each.counts:
            raise RemoteError(f"content {each.content[:12]} is said to have two different counts")
