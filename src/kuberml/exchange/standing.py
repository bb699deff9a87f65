"""Whose word counts how much: witnesses by how far they agree with what was seen here, authors by how their knowledge did.

A reader with own tests (a receiver) trusts a witness as far as the two agree on packages that both tested: this finds liars,
and it also finds out whose data are like its own. A reader without (the hub) goes by the majority.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

from kuberml.core.ids import Digest, LabelId
from kuberml.exchange.statistics import shows_failure
from kuberml.exchange.trial import Tally
from kuberml.knowledge.card import PPM
from kuberml.knowledge.verdict import Verdict, aggregate

GOOD = 0.6
"""Recall from which a tested package counts as good."""

SECOND_HAND_PPM = PPM // 2
"""Trust in a witness that was compared only with others' tests counts half."""


class Standing:
    """Verdicts heard so far, and what follows from them. The order in which they were heard does not matter."""

    def __init__(
        self, self_witness: str | None = None, *, bar: float = GOOD, doubt: float = 1.0, majority: bool = False
    ) -> None:
        """`self_witness`: public key of the reader, whose own tests are the yardstick; None: the majority is.

        `bar`, `doubt`, `majority`: what counts as good and what as bad, and what to go by where no test of one's own is
        either; see `exchange.trial.TrialPlan`.
        """
        self._me, self._bar, self._doubt, self._by_majority = self_witness, bar, doubt, majority
        self._verdicts: dict[Digest, dict[str, Verdict]] = {}
        self._good: dict[str, dict[Digest, bool]] = {}  # by witness: what it found of each card
        self._trust: dict[str, int] = {}  # of what was heard so far, as is
        self._ranks: dict[str, tuple[int, int]] = {}  # the same of authors: good, tested
        self._credit: dict[Digest, dict[LabelId, Tally]] = {}  # of the cards that were asked about since

    def heard(self, verdict: Verdict) -> None:
        """Take a checked verdict into account; a witness's newest on a card counts."""
        on_card = self._verdicts.setdefault(verdict.card, {})
        old = on_card.get(verdict.witness)
        if old is None or (verdict.at_ms, verdict.witness) > (old.at_ms, old.witness):
            on_card[verdict.witness] = verdict
            self._find(verdict)
            self._begin_anew()

    def _find(self, verdict: Verdict) -> None:
        """Good, bad, or neither: one wrong answer of two says nothing, and whoever says otherwise is no liar."""
        found = self._good.setdefault(verdict.witness, {})
        correct, tested = sum(verdict.correct.values()), sum(verdict.tested.values())
        if tested > 0 and correct >= self._bar * tested:
            found[verdict.card] = True
        elif shows_failure(correct, tested, self._bar, self._doubt):
            found[verdict.card] = False
        else:
            found.pop(verdict.card, None)

    def forget(self, card: Digest) -> None:
        """What was said of a card no longer counts."""
        said = self._verdicts.pop(card, None)
        if said is not None:
            for witness in said:
                self._good[witness].pop(card, None)
                if not self._good[witness]:
                    del self._good[witness]
            self._begin_anew()

    def _begin_anew(self) -> None:
        self._trust.clear()
        self._ranks.clear()
        self._credit.clear()

    def trust_ppm(self, witness: str) -> int:
        """How far a witness's word counts, 0 to PPM: agreements less contradictions, as a share of what could be compared.

        Compared is with the yardstick: one's own tests; where those share no package with the witness, with what witnesses
        trusted so far say. A witness with whom nothing can be compared counts nothing, and neither does an author of
        knowledge that failed here.
        """
        if not self._trust:
            self._weigh()
        return self._trust.get(witness, 0)

    def _weigh(self) -> None:
        mine = self._good.get(self._me, {}) if self._me else {}
        if self._me is None or (self._by_majority and not mine):
            majority = self._majority()
            found = {witness: _agreement(good, partial(majority, witness)) for witness, good in self._good.items()}
            self._trust = {witness: trust for witness, trust in found.items() if trust is not None}
            return
        found = {witness: _agreement(good, mine.get) for witness, good in self._good.items() if witness != self._me}
        self._trust = {witness: trust for witness, trust in found.items() if trust is not None}
        if mine:
            self._trust[self._me] = PPM
        self._weigh_second_hand(sorted(witness for witness, trust in found.items() if trust is None))
        for author in {self._verdicts[card][self._me].author for card, good in mine.items() if not good}:
            if author in self._trust:
                self._trust[author] = 0

    def _weigh_second_hand(self, witnesses: list[str]) -> None:
        """Compare with what witnesses trusted so far say of a card, one voice each by trust; who is weighed joins them."""
        yes: Counter[Digest] = Counter()
        total: Counter[Digest] = Counter()

        def joins(witness: str) -> None:
            for card, good in self._good[witness].items():
                total[card] += self._trust[witness]
                yes[card] += self._trust[witness] * good

        def consensus(card: Digest) -> bool | None:
            return 2 * yes[card] > total[card] if total[card] else None

        for witness in self._trust if witnesses else ():
            joins(witness)
        for witness in witnesses:
            self._trust[witness] = (_agreement(self._good[witness], consensus) or 0) * SECOND_HAND_PPM // PPM
            joins(witness)

    def _majority(self) -> Callable[[str, Digest], bool | None]:
        """(witness, card) -> what most others say of it; None if they are even. Nobody has a voice on what is its own."""
        votes: Counter[Digest] = Counter()  # good less bad
        for card, on_card in self._verdicts.items():
            votes[card] = sum(self._vote(card, who) for who in on_card)

        def of_others(witness: str, card: Digest) -> bool | None:
            left = votes[card] - self._vote(card, witness)
            return left > 0 if left else None

        return of_others

    def _vote(self, card: Digest, witness: str) -> int:
        """1, -1 or 0: one voice each, since a large test is no louder: it is only claimed."""
        if self._verdicts[card][witness].author == witness:
            return 0
        good = self._good[witness].get(card)
        return 0 if good is None else 1 if good else -1

    def credit(self, card: Digest) -> dict[LabelId, Tally]:
        """What others say of a card, per label, each weighted by trust. The reader's own tests are left out."""
        if card not in self._credit:
            self._credit[card] = self._pooled(card)
        return self._credit[card]

    def _pooled(self, card: Digest) -> dict[LabelId, Tally]:
        others = [verdict for witness, verdict in self._verdicts.get(card, {}).items() if witness != self._me]
        pooled = aggregate(others, {verdict.witness: self.trust_ppm(verdict.witness) for verdict in others})
        return {label: Tally(one.correct_ppm // PPM, one.tested_ppm // PPM) for label, one in pooled.items()}

    def outcomes(self, card: Digest) -> dict[LabelId, tuple[int, int]]:
        """The same as (right answers, samples): what the broker predicts with."""
        return {label: (tally.correct, tally.count) for label, tally in self.credit(card).items()}

    def rank_ppm(self, author: str) -> int:
        """How an author's knowledge did so far: (good + 1) / (tested + 2) over verdicts, weighted by trust."""
        if not self._ranks:
            self._rank()
        good, tested = self._ranks.get(author, (0, 0))
        return PPM * (good + PPM) // (tested + 2 * PPM)

    def _rank(self) -> None:
        for card, on_card in self._verdicts.items():
            for witness, verdict in on_card.items():
                if verdict.author != witness and card in self._good[witness]:
                    trust, (good, tested) = self.trust_ppm(witness), self._ranks.get(verdict.author, (0, 0))
                    self._ranks[verdict.author] = good + trust * self._good[witness][card], tested + trust


def _agreement(good: dict[Digest, bool], yardstick: Callable[[Digest], bool | None]) -> int | None:
    """Agreements less contradictions of a witness and a yardstick, as a share of both; None: nothing can be compared."""
    agree = differ = 0
    for card, found in good.items():
        expected = yardstick(card)
        if expected is not None:
            agree, differ = agree + (expected == found), differ + (expected != found)
    return PPM * max(0, agree - differ) // (agree + differ) if agree + differ else None


def is_good(verdict: Verdict) -> bool:
    """Whether a tested package counts as good: recall over all its labels of GOOD or more."""
    tested = sum(verdict.tested.values())
    return tested > 0 and sum(verdict.correct.values()) >= GOOD * tested
