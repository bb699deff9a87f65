"""The sum over a set of contributions that packages bring, each counted once (see `knowledge.contributions`).

Trials ask for the same packages and one more, again and again: the sum of what was there before the last one is kept, so a
trial costs one addition, however much was absorbed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from kuberml.core.errors import RemoteError
from kuberml.core.ids import Digest
from kuberml.exchange.parcel import Parcel
from kuberml.knowledge.card import Card
from kuberml.knowledge.contributions import Contributions, Refused, apply, plan
from kuberml.knowledge.kinds.statistics import Merged, Statistics, sums_of
from kuberml.knowledge.manifest import Contribution, single
from kuberml.knowledge.screening import version_problem

Sum = tuple[Contributions, Statistics | None]
MANY = 2
"""Packages from which on their sum is kept."""


class ExactSum:
    """Sums that begin with one's own packet."""

    def __init__(self, mine: Contribution | None, shared: Statistics) -> None:
        """`mine`: one's own packet as others would name it, whose sums are `shared`; None: it does not count."""
        self._mine, self._shared = mine, shared
        self._known: tuple[tuple[Digest, ...], Sum] = (), self._begin()

    def published(self, card: Card) -> None:
        """One's own packet is out under this card: what comes back and contains it names it so."""
        self._mine = single(card)
        self._known = (), self._begin()

    @property
    def counts_mine(self) -> bool:
        """Whether one's own packet is in every sum."""
        return self._mine is not None

    def of(self, parcels: Iterable[Parcel]) -> Sum:
        """What these packages and one's own are made of; and the sums of that, None of nothing.

        Raises:
            RemoteError: contributions overlap and what is at hand does not suffice to subtract the overlap.
        """
        packages = sorted(parcels, key=lambda one: one.signed.card.version)
        _check_versions(packages)
        sums = {parcel.signed.card.content: sums_of(parcel.content) for parcel in packages}
        made_of = {parcel.signed.card.content: _contributions(parcel) for parcel in packages}
        if self._mine is not None:
            sums[self._mine.content], made_of[self._mine.content] = self._shared, (self._mine,)
        held = {name: frozenset(each.content for each in parts) for name, parts in made_of.items()}
        names = tuple(parcel.digest for parcel in packages)
        done, (have, total) = self._nearest(names)
        for place, parcel in list(enumerate(packages))[done:]:
            if place == len(packages) - 1 >= MANY:
                self._known = names[:place], (have, total)
            name = parcel.signed.card.content
            step = plan(have, _contributions(parcel), held)
            if isinstance(step, Refused):
                raise RemoteError(step.reason)
            have, total = step.after, apply(step, total, sums[name], sums.__getitem__)
        return have, total

    def _begin(self) -> Sum:
        return (Contributions(), None) if self._mine is None else (Contributions((self._mine,)), self._shared)

    def _nearest(self, names: tuple[Digest, ...]) -> tuple[int, Sum]:
        """How many of these packages are in the sum that is kept, and that sum.

        Integers do not depend on how they were added, nor a set on what else is at hand: it is as if it began anew.
        """
        known, found = self._known
        return (len(known), found) if names[: len(known)] == known else (0, self._begin())


def _check_versions(parcels: Sequence[Parcel]) -> None:
    """Whoever has two versions of a slot can subtract them: the difference must stand on as many samples as a packet."""
    versions = sorted(parcels, key=lambda one: (one.place, one.signed.card.version))
    for old, new in pairwise(versions):
        if old.place == new.place and (problem := version_problem(sums_of(old.content), sums_of(new.content))):
            raise RemoteError(f"version {new.signed.card.version} of {new.place[1]!r}: {problem}")


def _contributions(parcel: Parcel) -> tuple[Contribution, ...]:
    """Of the delivered value, not of a card alone: what of it stands in a manifest was checked when it was opened."""
    return parcel.content.contributions if isinstance(parcel.content, Merged) else (single(parcel.signed.card),)
