"""What a scene remembers of people, cards, deliveries and trials, and how it tells them to a page."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from kuberml.core.ids import Digest, LabelId, NodeId
from kuberml.knowledge.card import SignedCard

LABELS = 64
"""Remembered of one card."""
LABEL_CHARS = 80
LEARNED, SLOTS = 256, 256
"""Cards remembered that one person has absorbed, and slots of one author."""
SILENT = frozenset({"probe", "extractor"})
"""Kinds that everybody shares: holding one is not knowing its labels."""

OWN, LEARNED_IT = 1, 2


class About(msgspec.Struct, frozen=True):
    """What a page says of a card, as its author signed it."""

    author: str
    kind: str
    labels: tuple[LabelId, ...]
    size_bytes: int
    slot: str = ""
    version: int = 0


def about(signed: SignedCard) -> About:
    """The first LABELS labels, in order, and the rest."""
    card = signed.card
    labels = (
        ()
        if card.kind in SILENT
        else tuple(label[:LABEL_CHARS] for label in sorted(name for name, count in card.labels.items() if count > 0)[:LABELS])
    )
    return About(card.author, card.kind, labels, card.size_bytes, card.slot, card.version)


@dataclass(slots=True)
class Works:
    """What one author has published: the newest of each slot."""

    newest: dict[str, About] = field(default_factory=dict)
    published: int = 0

    def publishes(self, card: About) -> None:
        """A card of this author was announced, by whomever; the same one again changes nothing."""
        before = self.newest.get(card.slot)
        if before is None or card.version > before.version:
            self.published += 1
            self.newest.pop(card.slot, None)
            self.newest[card.slot] = card
            if len(self.newest) > SLOTS:
                del self.newest[next(iter(self.newest))]

    def withdraws(self, slot: str, version: int) -> None:
        """It took this back."""
        before = self.newest.get(slot)
        if before is not None and before.version <= version:
            del self.newest[slot]


@dataclass(slots=True)
class Person:
    """A node that is or was here."""

    node: NodeId
    role: str
    key: str
    since_ms: int
    seen_ms: int
    here: bool = True
    works: Works = field(default_factory=Works)
    learned: dict[Digest, tuple[LabelId, ...]] = field(default_factory=dict)
    accuracy_ppm: int | None = None
    credit: float = 0.0  # reports that it may send now
    credited_ms: int = 0

    def knows(self, label_limit: int) -> dict[LabelId, int]:
        """Labels that it knows of itself (OWN), from others (LEARNED_IT), or both."""
        own = (label for card in self.works.newest.values() for label in card.labels)
        found = dict.fromkeys(itertools.islice(own, label_limit), OWN)
        for labels in self.learned.values():
            for label in labels:
                if label in found or len(found) < label_limit:
                    found[label] = found.get(label, 0) | LEARNED_IT
        return found

    def absorbs(self, card: Digest, labels: tuple[LabelId, ...]) -> None:
        """It has taken in somebody's knowledge."""
        self.learned.pop(card, None)
        self.learned[card] = labels
        if len(self.learned) > LEARNED:
            del self.learned[next(iter(self.learned))]


@dataclass(slots=True)
class Delivery:
    """A package on its way to somebody."""

    node: NodeId
    card: str
    holder: str
    total_bytes: int
    seen_ms: int
    done_bytes: int = 0
    bytes_s: float = 0.0
    state: Literal["under way", "done", "failed"] = "under way"

    def moves(self, done_bytes: int, now_ms: int) -> None:
        """So much is there now; the speed is that of the last few seconds, by the hub's clock."""
        done_bytes = min(done_bytes, self.total_bytes)
        elapsed_s = max(now_ms - self.seen_ms, 1) / 1000
        if done_bytes >= self.done_bytes and elapsed_s >= 0.05:
            speed = (done_bytes - self.done_bytes) / elapsed_s
            keep = 0.5 ** (elapsed_s / 2.0)
            self.bytes_s = speed if not self.bytes_s else keep * self.bytes_s + (1 - keep) * speed
        self.done_bytes, self.seen_ms = done_bytes, now_ms


@dataclass(slots=True)
class Trial:
    """What came of somebody's looking at somebody's package."""

    node: NodeId
    card: str
    at_ms: int
    verdict: Literal["waiting", "accepted", "refused"]
    why: str

    def row(self, card: About | None, author: str) -> dict[str, Any]:
        """For the page."""
        return {
            "node": self.node, "card": self.card[:12], "at_ms": self.at_ms, "verdict": self.verdict, "why": self.why,
            "author": author, "kind": card.kind if card else "", "labels": list(card.labels[:12]) if card else [],
        }  # fmt: skip
