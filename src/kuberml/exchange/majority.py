"""Whose word counts how much where nobody has tests of his own: a hub goes by the majority.

The same answers as `standing.Standing` without a reader gives, kept up to date card by card: a verdict costs what its own card
has witnesses, not what the whole board holds.
"""

from __future__ import annotations

from collections import defaultdict

from kuberml.core.ids import Digest, LabelId
from kuberml.exchange.standing import is_good
from kuberml.exchange.trial import Tally
from kuberml.knowledge.card import PPM
from kuberml.knowledge.verdict import Verdict, aggregate


class Majority:
    """Verdicts heard so far, and what follows from them. The order in which they were heard does not matter."""

    def __init__(self) -> None:
        self._cards: dict[Digest, dict[str, Verdict]] = {}
        self._of_author: defaultdict[str, set[Digest]] = defaultdict(set)
        self._compared: dict[str, tuple[int, int]] = {}  # by witness: agreements, contradictions

    def heard(self, verdict: Verdict) -> None:
        """Take a checked verdict into account, in place of what its witness said of that card before."""
        self._count(verdict.card, -1)
        self._cards.setdefault(verdict.card, {})[verdict.witness] = verdict
        self._of_author[verdict.author].add(verdict.card)
        self._count(verdict.card, +1)

    def forget(self, card: Digest) -> None:
        """Leave everything out that was said of a card."""
        self._count(card, -1)
        for verdict in self._cards.pop(card, {}).values():
            self._of_author[verdict.author].discard(card)
            if not self._of_author[verdict.author]:
                del self._of_author[verdict.author]

    def trust_ppm(self, witness: str) -> int:
        """How far a witness's word counts, 0 to PPM: agreements with the majority of the others, less contradictions."""
        agree, differ = self._compared.get(witness, (0, 0))
        return PPM * max(0, agree - differ) // (agree + differ) if agree + differ else 0

    def outcomes(self, card: Digest) -> dict[LabelId, tuple[int, int]]:
        """What witnesses say of a card, per label, each weighted by trust: (right answers, samples)."""
        verdicts = self._cards.get(card, {})
        pooled = aggregate(verdicts.values(), {witness: self.trust_ppm(witness) for witness in verdicts})
        tallies = {label: Tally(one.correct_ppm // PPM, one.tested_ppm // PPM) for label, one in pooled.items()}
        return {label: (tally.correct, tally.count) for label, tally in tallies.items()}

    def rank_ppm(self, author: str) -> int:
        """How an author's knowledge did so far: (good + 1) / (tested + 2) over verdicts, weighted by trust."""
        good = tested = 0
        for card in self._of_author.get(author, ()):
            for witness, verdict in self._cards[card].items():
                if verdict.author == author and witness != author:
                    trust = self.trust_ppm(witness)
                    good, tested = good + trust * is_good(verdict), tested + trust
        return PPM * (good + PPM) // (tested + 2 * PPM)

    def _count(self, card: Digest, sign: int) -> None:
        """Add (+1) or take away (-1) what a card says of each of its witnesses: is it with the majority of the others?"""
        on_card = self._cards.get(card, {})
        said = {witness: is_good(verdict) for witness, verdict in on_card.items()}
        voices = {witness: said[witness] for witness, verdict in on_card.items() if witness != verdict.author}
        good, bad = sum(voices.values()), len(voices) - sum(voices.values())
        for witness, mine in said.items():
            voice = voices.get(witness)
            others_good, others_bad = good - (voice is True), bad - (voice is False)
            if others_good != others_bad:
                agree, differ = self._compared.get(witness, (0, 0))
                same = (others_good > others_bad) == mine
                after = agree + sign * same, differ + sign * (not same)
                if after == (0, 0):
                    self._compared.pop(witness, None)
                else:
                    self._compared[witness] = after
