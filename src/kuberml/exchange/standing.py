"""Whose word counts how much: witnesses by how far they agree with what was seen here, authors by how their knowledge did.

A reader with own tests (a receiver) trusts a witness as far as the two agree on packages that both tested: this finds liars,
and it also finds out whose data are like its own. A reader without (the hub) goes by the majority.
"""

from __future__ import annotations

from collections.abc import Callable

from kuberml.core.ids import Digest, LabelId
from kuberml.exchange.trial import Tally
from kuberml.knowledge.card import PPM
from kuberml.knowledge.verdict import Verdict, aggregate

GOOD = 0.6
"""Recall from which a tested package counts as good."""

SECOND_HAND_PPM = PPM // 2
"""Trust in a witness that was compared only with others' tests counts half."""


class Standing:
    """Verdicts heard so far, and what follows from them. The order in which they were heard does not matter."""

    def __init__(self, self_witness: str | None = None) -> None:
        """`self_witness`: public key of the reader, whose own tests are the yardstick; None: the majority is."""
        self._me = self_witness
        self._verdicts: dict[Digest, dict[str, Verdict]] = {}
        self._trust: dict[str, int] = {}  # of what was heard so far, as is
        self._credit: dict[Digest, dict[LabelId, Tally]] = {}  # of the cards that were asked about since

    def heard(self, verdict: Verdict) -> None:
        """Take a checked verdict into account; a witness's newest on a card counts."""
        on_card = self._verdicts.setdefault(verdict.card, {})
        old = on_card.get(verdict.witness)
        if old is None or (verdict.at_ms, verdict.witness) > (old.at_ms, old.witness):
            on_card[verdict.witness] = verdict
            self._trust.clear()
            self._credit.clear()

    def forget(self, card: Digest) -> None:
        """What was said of a card no longer counts."""
        if self._verdicts.pop(card, None) is not None:
            self._trust.clear()
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
        witnesses = sorted({witness for on_card in self._verdicts.values() for witness in on_card})
        direct = {w: self._agreement(w, self._yardstick) for w in witnesses if w != self._me}
        known = {w: PPM if w == self._me else direct[w] for w in witnesses if w == self._me or direct[w] is not None}
        self._trust = {w: trust for w, trust in known.items() if trust is not None}
        if self._me is not None:
            for witness in [w for w in witnesses if w not in self._trust]:
                self._trust[witness] = (self._agreement(witness, self._consensus) or 0) * SECOND_HAND_PPM // PPM
        for witness in self._trust:
            if self._disproved(witness):
                self._trust[witness] = 0

    def _agreement(self, witness: str, yardstick: Callable[[dict[str, Verdict], str], bool | None]) -> int | None:
        agree = differ = 0
        for on_card in self._verdicts.values():
            expected = yardstick(on_card, witness) if witness in on_card else None
            if expected is not None:
                same = expected == is_good(on_card[witness])
                agree, differ = agree + same, differ + (not same)
        return PPM * max(0, agree - differ) // (agree + differ) if agree + differ else None

    def _consensus(self, on_card: dict[str, Verdict], witness: str) -> bool | None:
        """What witnesses trusted so far say of a card, one voice each by trust; None if none of them tested it."""
        voices = [(self._trust.get(who, 0), is_good(verdict)) for who, verdict in sorted(on_card.items()) if who != witness]
        yes, total = sum(trust for trust, good in voices if good), sum(trust for trust, _ in voices)
        return 2 * yes > total if total else None

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
        good = tested = 0
        for on_card in self._verdicts.values():
            for witness, verdict in sorted(on_card.items()):
                if verdict.author == author and witness != author:
                    trust = self.trust_ppm(witness)
                    good, tested = good + trust * is_good(verdict), tested + trust
        return PPM * (good + PPM) // (tested + 2 * PPM)

    def _yardstick(self, on_card: dict[str, Verdict], witness: str) -> bool | None:
        if self._me is not None:
            mine = on_card.get(self._me)
            return None if mine is None else is_good(mine)
        voices = [is_good(verdict) for who, verdict in on_card.items() if who not in (witness, verdict.author)]
        good, bad = sum(voices), len(voices) - sum(voices)  # one voice each: a large test is no louder, it is only claimed
        return None if good == bad else good > bad

    def _disproved(self, author: str) -> bool:
        mine = [on_card[self._me] for on_card in self._verdicts.values() if self._me in on_card] if self._me else []
        return any(verdict.author == author and not is_good(verdict) for verdict in mine)


def is_good(verdict: Verdict) -> bool:
    """Whether a tested package counts as good: recall over all its labels of GOOD or more."""
    tested = sum(verdict.tested.values())
    return tested > 0 and sum(verdict.correct.values()) >= GOOD * tested
