"""Which packets a model is made of, so that nobody's data counts twice. Pure functions; the sums are elsewhere.

A model's sums are always those of a *set* of contents: each content once, whoever signed it, in whatever packages it came. An
author's slot holds its highest version. Joining two sets takes the higher version of each slot, so the order of arrival does
not matter, and a withdrawn version never comes back.

    after, step = plan(have, contributions_of(knowledge), held)     what to add and subtract, or why not
    total = apply(step, total, value, get)                          the integers of exactly that set

What comes may overlap with what is there: a merge of merges, a version 2 that contains version 1. Then the overlap is
subtracted exactly with packets that are at hand (`held`), or the package is refused and the missing packets are named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TypeAlias

import msgspec

from kuberml.core import canonical
from kuberml.core.errors import RemoteError
from kuberml.core.ids import Digest, LabelId, digest_of
from kuberml.core.values import value
from kuberml.knowledge.algebra import merge_all, remove
from kuberml.knowledge.card import Knowledge
from kuberml.knowledge.kinds.statistics import Merged
from kuberml.knowledge.manifest import MANIFEST, Contribution, add_counts, check_contributions, decode_manifest, single
from kuberml.knowledge.moments import Statistics
from kuberml.knowledge.screening import exchange_problem
from kuberml.knowledge.withholding import MIN_CLASS_COUNT, difference_problem

DOMAIN = b"kuberml.manifest/1\0"
Held: TypeAlias = Mapping[Digest, frozenset[Digest]]
"""Packages at hand: by content, the contents that their sums are made of (of one author's packet: itself)."""


@value
class Contributions(msgspec.Struct, frozen=True):
    """What a model is made of.

    Attributes:
        entries: the highest known version of each author's slot, sorted by author and slot. Two entries may have the same
            content (somebody signed a copy); it counts once.
        withdrawn: (author, slot, version): this version and those below are not taken again. Sorted.
        forgotten: contents that are not taken again, whoever signs them. Sorted.
    """

    entries: tuple[Contribution, ...] = ()
    withdrawn: tuple[tuple[str, str, int], ...] = ()
    forgotten: tuple[Digest, ...] = ()

    @property
    def contents(self) -> frozenset[Digest]:
        """The set whose sum the model is."""
        return frozenset(entry.content for entry in self.entries)

    @property
    def counts(self) -> dict[LabelId, int]:
        """Samples of each label, each content once."""
        return add_counts(self.entries)

    @property
    def manifest(self) -> Digest:
        """The model's identity: equal sets, and only they, have equal manifests and equal integers."""
        return digest_of(DOMAIN + canonical.encode(sorted(self.contents)))


class Plan(msgspec.Struct, frozen=True):
    """How to get from the sums of `before` to those of `after`.

    Attributes:
        before, after: what the model is made of.
        keep: start from the sums that are there; else from nothing.
        take: add the sums of the package that came.
        add, subtract: contents of packages at hand whose sums to add and to subtract.
        replaces: content of the version before, if the package that came is one author's new version.
    """

    before: Contributions
    after: Contributions
    keep: bool = True
    take: bool = False
    add: tuple[Digest, ...] = ()
    subtract: tuple[Digest, ...] = ()
    replaces: Digest | None = None

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return not self.keep or self.take or bool(self.add) or bool(self.subtract)


class Refused(msgspec.Struct, frozen=True):
    """Why a package is not taken in, and the contents that, if they were at hand, would change that."""

    reason: str
    missing: tuple[Digest, ...] = ()


def contributions_of(knowledge: Knowledge) -> tuple[Contribution, ...]:
    """Whose data stand behind a package of statistics: its author's, or those of its manifest.

    Raises:
        RemoteError: the manifest is not one.
    """
    if knowledge.card.facts.get(MANIFEST):
        return decode_manifest(knowledge.blobs[-1])
    return (single(knowledge.card),)


def plan(
    have: Contributions, incoming: tuple[Contribution, ...], held: Held, *, min_class_count: int = MIN_CLASS_COUNT
) -> Plan | Refused:
    """How to take a package in.

    Args:
        have: what the model is made of.
        incoming: `contributions_of` the package.
        held: packages at hand that may be added or subtracted.
        min_class_count: a version that changes a label by fewer samples is refused.

    Raises:
        RemoteError: the author signed two contents under one version, or one content with two counts.
    """
    known = {entry.place: entry for entry in have.entries}
    newer = _newer(have, known, incoming)
    if len(incoming) == 1 and not newer and incoming[0] not in have.entries:
        return Refused(f"version {incoming[0].version} of {incoming[0].slot!r} is older than what is here, or was withdrawn")
    replaced = [place for place in newer if place in known]
    for place in replaced:
        problem = difference_problem(known[place].counts, newer[place].counts, min_class_count)
        if problem is not None:
            return Refused(f"version {newer[place].version} of {place[1]!r}: {problem}")
    entries = tuple(sorted((known | newer).values(), key=lambda each: each.place))
    check_contributions(entries)
    old = known[replaced[0]].content if len(incoming) == 1 and replaced else None
    goal = Plan(have, msgspec.structs.replace(have, entries=entries), replaces=old)
    return _reach(goal, frozenset(each.content for each in incoming), held)


def plan_removal(have: Contributions, author: str, slot: str, held: Held, *, copies: bool = False) -> Plan | Refused:
    """How to forget an author's slot, and not take its present or an earlier version again.

    With `copies`, whatever others signed with the same content goes too and never comes back. That is not the default: anybody
    could then expel anybody, by signing a copy and withdrawing it.
    """
    gone = [entry for entry in have.entries if entry.place == (author, slot)]
    forgotten = {entry.content for entry in gone} if copies else set()
    gone += [entry for entry in have.entries if entry.content in forgotten and entry not in gone]
    withdrawn = {(who, where): version for who, where, version in have.withdrawn} | {e.place: e.version for e in gone}
    after = Contributions(
        entries=tuple(entry for entry in have.entries if entry not in gone),
        withdrawn=tuple(sorted((who, where, version) for (who, where), version in withdrawn.items())),
        forgotten=tuple(sorted({*have.forgotten, *forgotten})),
    )
    return _reach(Plan(have, after), frozenset(), held)


def apply(
    step: Plan, total: Statistics | None, incoming: Statistics | None, get: Callable[[Digest], Statistics]
) -> Statistics | None:
    """The sums of `step.after`; None if there are none.

    Args:
        step: what to do.
        total: the sums that are there; None if there are none yet.
        incoming: the sums of the package that came.
        get: the sums of a package at hand, by content.

    Raises:
        RemoteError: the sums that result are not those that the manifests promise, or a version exchanges single samples.
        ConfigError: the packages are of different features.
    """
    old = get(step.replaces) if step.replaces in step.subtract else total if step.before.contents == {step.replaces} else None
    problem = exchange_problem(old, incoming) if step.take and old is not None and incoming is not None else None
    if problem:
        raise RemoteError(problem)
    parts = [part for part, wanted in ((total, step.keep), (incoming, step.take)) if wanted and part is not None]
    parts += [get(content) for content in step.add]
    if not parts:
        return None
    result = merge_all(parts)
    for content in step.subtract:
        result = remove(result, get(content))
    if result.counts != step.after.counts:
        raise RemoteError("the sums are not of the contributions that the manifest names")
    return result if step.after.entries else None


def as_merge(have: Contributions, total: Statistics) -> Merged:
    """What a hub publishes: the sums, and whose they are."""
    return Merged(total, have.entries)


def _newer(
    have: Contributions, known: Mapping[tuple[str, str], Contribution], incoming: tuple[Contribution, ...]
) -> dict[tuple[str, str], Contribution]:
    """What raises the version of its slot, or opens one."""
    closed = {(author, slot): version for author, slot, version in have.withdrawn}
    newer = {}
    for each in incoming:
        here = known.get(each.place)
        if here is not None and here.version == each.version and here.content != each.content:
            raise RemoteError(f"{each.author[:12]}... signed two contents as version {each.version} of {each.slot!r}")
        below = max(closed.get(each.place, -1), -1 if here is None else here.version)
        if each.version > below and each.content not in have.forgotten:
            newer[each.place] = each
    return newer


def _reach(goal: Plan, incoming: frozenset[Digest], held: Held) -> Plan | Refused:
    """The first way from what is there and what came to `goal.after`. What is lacking and what is too much must be at hand."""
    missing: set[Digest] = set()
    wanted = Counter(goal.after.contents)
    for keep, take in ((True, False), (True, True), (False, True), (False, False)):
        start = Counter(goal.before.contents if keep else ()) + Counter(incoming if take else ())
        add, lacking = _cover(wanted - start, held)
        subtract, surplus = _cover(start - wanted, held)
        if not lacking and not surplus:
            return msgspec.structs.replace(goal, keep=keep, take=take, add=add, subtract=subtract)
        if keep and take:
            missing = {*lacking, *surplus}
    return Refused("it overlaps with what is here, and the overlap is not at hand to be subtracted", tuple(sorted(missing)))


def _cover(wanted: Counter[Digest], held: Held) -> tuple[tuple[Digest, ...], Counter[Digest]]:
    """Packages at hand, largest first, whose contents are exactly `wanted`, and what is left of it.

    Greedy: with each single packet at hand it always succeeds; with merges only it may miss a cover, which is safe.
    """
    chosen: list[Digest] = []
    left = +wanted
    for name in sorted(held, key=lambda each: (-len(held[each]), each)):
        while held[name] and all(left[content] for content in held[name]):
            chosen.append(name)
            left -= Counter(held[name])
    return tuple(chosen), left
