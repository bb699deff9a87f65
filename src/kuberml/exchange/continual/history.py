"""What a cloud must still know after a crash: the packets it is made of, and every model that it ever served.

Memory holds one entry for each packet and each served version, and one for the present state; a change commits all that it
touches in one transaction. A version names its manifest, and what it added and dropped; the set of any version is what all
before it added and dropped, and is checked against the manifest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from kuberml.core import canonical
from kuberml.core.errors import ConfigError, InternalError
from kuberml.core.ids import Digest, LabelId, digest_of
from kuberml.core.values import value
from kuberml.exchange.continual.drift import Drift
from kuberml.exchange.continual.served import Taught
from kuberml.exchange.continual.slow import Recipe
from kuberml.exchange.memory import Memory
from kuberml.knowledge.contributions import DOMAIN, Contributions
from kuberml.knowledge.manifest import Contribution
from kuberml.learning.continual import Measures

STATE, PACKET, ENTRY, HEARD = "cloud", "cloud.packet.", "cloud.entry.", "cloud.edges."
REFUSED_MAX = 512
"""Refusals, and suspects, that are remembered: the oldest are forgotten, and what they were about may be tried again."""


@value
class Packet(msgspec.Struct, frozen=True):
    """One packet that is or was in the model: its card (in the store), and what counts of it."""

    card: Digest
    learned_at_ms: int
    entry: Contribution


@value
class Refusal(msgspec.Struct, frozen=True):
    """Why a package is not in the model; tries: how often it was tried, at which served version last."""

    why: str
    tries: int
    number: int
    final: bool


@value
class State(msgspec.Struct, frozen=True):
    """The present.

    Attributes:
        made_of: what the served model is made of.
        number: of the served version; 0: none yet.
        ridge: of its head.
        sums: digest of its integers.
        saved, blob: the version whose integers lie in the store, and where; 0: none.
        barred: contents that were rolled back: not absorbed again until they are readmitted.
        removed: authors that are forgotten, until they are readmitted.
        refused: by card.
        suspects: cards that came with a version that edges found worse: each is tried alone when it comes again.
        again_ms: the clock when an operator last went back or let something in again; what was learned before is no news then.
    """

    made_of: Contributions = Contributions()
    number: int = 0
    ridge: float = 1.0
    sums: Digest = Digest("")
    saved: int = 0
    blob: Digest = Digest("")
    barred: tuple[Digest, ...] = ()
    removed: tuple[str, ...] = ()
    refused: dict[str, Refusal] = {}
    suspects: tuple[Digest, ...] = ()
    again_ms: int = 0

    def cleared(self, cards: Iterable[Digest]) -> tuple[Digest, ...]:
        """The suspects but for these cards."""
        gone = frozenset(cards)
        return tuple(card for card in self.suspects if card not in gone)


@value
class Entry(msgspec.Struct, frozen=True):
    """One served version.

    Attributes:
        number: 1, 2, ...
        manifest: of what it is made of: the set of contents, and the recipe if there is one.
        sums: digest of the integers of that set.
        ridge: with which its head was solved.
        model: digest of the predictor.
        at_ms: when it began to be served.
        why: in words.
        labels: that it knows, sorted.
        added, dropped: contents, against the version before.
        recall: of each label of the probe, by this model; {} without a labelled probe.
        fair: the same by the balanced head of the same sums, on which the gate judges; {} where it did not.
        joint: the same by the model that saw everything that is not refused.
        measures: after this version, over the tasks: the groups of labels that came together.
        drift: of the packets that came with it.
        recipe: how it was learned further from the exact head of that set (see `slow`); None: it is that head.
    """

    number: int
    manifest: Digest
    sums: Digest
    ridge: float
    model: Digest
    at_ms: int
    why: str
    labels: tuple[LabelId, ...]
    added: tuple[Digest, ...] = ()
    dropped: tuple[Digest, ...] = ()
    recall: dict[LabelId, float] = {}
    fair: dict[LabelId, float] = {}
    joint: dict[LabelId, float] = {}
    measures: Measures | None = None
    drift: tuple[Drift, ...] = ()
    recipe: Recipe | None = None

    @property
    def base(self) -> Digest:
        """Manifest of the set of packets: `manifest` itself, unless it was learned further."""
        return self.manifest if self.recipe is None else self.recipe.base


class History:
    """Read and written through a node's memory."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.state: State = memory.get(STATE, State())
        self.entries: list[Entry] = [memory.get(_named(n)) for n in range(1, self.state.number + 1)]

    def packet(self, content: Digest) -> Packet:
        """Of a content that is or was in the model. Raises KeyError: it never was, or was erased."""
        found = self._memory.get(PACKET + content)
        if found is None:
            raise KeyError(content)
        return found  # type: ignore[no-any-return]

    def knows(self, content: Digest) -> bool:
        """Whether a content is or was in the model."""
        return PACKET + content in self._memory

    def commit(self, state: State, entry: Entry | None = None, packets: Iterable[Packet] = ()) -> None:
        """All of it, or nothing. Raises OSError: the disk is full or broken; nothing changed then."""
        refused = dict(list(state.refused.items())[-REFUSED_MAX:])
        state = msgspec.structs.replace(state, refused=refused, suspects=state.suspects[-REFUSED_MAX:])
        fresh: dict[str, Any] = {PACKET + packet.entry.content: packet for packet in packets}
        if entry is not None:
            fresh[_named(entry.number)] = entry
        self._memory.update(**{STATE: state}, **fresh)
        self.state = state
        if entry is not None:
            self.entries.append(entry)

    def hear(self, number: int, said: Mapping[str, tuple[int, int]]) -> None:
        """Remember what edges found of a version: (held-out samples, right answers) by public key."""
        self._memory.update(**{_named(number, HEARD): dict(said)})

    def heard(self, number: int) -> Mapping[str, tuple[int, int]]:
        """The same, as it is remembered; {}: no edge has tried it."""
        found: Mapping[str, tuple[int, int]] = self._memory.get(_named(number, HEARD), {})
        return found

    def is_tried(self, number: int) -> bool:
        """Whether a version was tried by edges to the end, whatever they found."""
        return _named(number, HEARD) in self._memory

    def contents(self, number: int) -> frozenset[Digest]:
        """The set that a version is made of.

        Raises:
            ConfigError: there was no such version.
            InternalError: what is remembered does not come to the version's manifest.
        """
        if not 1 <= number <= len(self.entries):
            raise ConfigError(f"version {number} was never served here; known are 1 to {len(self.entries)}")
        found: set[Digest] = set()
        for entry in self.entries[:number]:
            found = (found - set(entry.dropped)) | set(entry.added)
        if manifest_of(found) != self.entries[number - 1].base:
            raise InternalError(f"version {number}: what is remembered does not come to its manifest")
        return frozenset(found)

    def version(self, manifest: Digest) -> Entry:
        """The newest version with a manifest (the first digits suffice).

        Raises:
            ConfigError: none, or several manifests begin so.
        """
        found = {entry.manifest: entry for entry in self.entries if entry.manifest.startswith(manifest)}
        if len(found) != 1:
            what = "several manifests begin" if found else "no version that was served here has a manifest that begins"
            raise ConfigError(f"{what} with {manifest!r}")
        return next(iter(found.values()))

    def taught(self, made_of: Contributions) -> Mapping[LabelId, tuple[Taught, ...]]:
        """Who taught what of a model, largest part first; each content once."""
        found: dict[LabelId, list[Taught]] = {}
        for content in sorted(made_of.contents):
            packet = self.packet(content)
            for label, count in packet.entry.counts.items():
                found.setdefault(label, []).append(Taught(packet.entry.author, packet.card, count, packet.learned_at_ms))
        return {label: tuple(sorted(parts, key=lambda one: (-one.samples, one.card))) for label, parts in sorted(found.items())}


def manifest_of(contents: Iterable[Digest]) -> Digest:
    """The identity of a set of contents: that of `Contributions.manifest`."""
    return digest_of(DOMAIN + canonical.encode(sorted(contents)))


def _named(number: int, what: str = ENTRY) -> str:
    return f"{what}{number:08d}"
